#!/usr/bin/python3
"""The accounts of the test domain, reached straight in its database (no server needed).

usage: domain.py SMB_CONF create NAME PASSWORD [NAME PASSWORD]...   sets the policy, makes users
       domain.py SMB_CONF bad-passwords NAME    prints the user's badPwdCount
       domain.py SMB_CONF forgive NAME          sets it to 0 and ends a lockout
"""
import sys

from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

HALF_AN_HOUR = -30 * 60 * 10**7  # a directory keeps spans of time as negative counts of 100 ns


def set_policy(db):
    """Any password will do, but the third wrong one locks the account, as it would at work."""
    policy = {
        "pwdProperties": 0,
        "minPwdLength": 1,
        "minPwdAge": 0,
        "lockoutThreshold": 3,
        "lockoutDuration": HALF_AN_HOUR,
        "lockOutObservationWindow": HALF_AN_HOUR,
    }
    changes = "".join(f"replace: {key}\n{key}: {value}\n-\n" for key, value in policy.items())
    db.modify_ldif(f"dn: {db.domain_dn()}\nchangetype: modify\n{changes}")


def bad_passwords(db, name):
    found = db.search(expression=f"(sAMAccountName={name})", attrs=["badPwdCount"])
    return int(found[0].get("badPwdCount", ["0"])[0])


def main():
    conf, command, *words = sys.argv[1:]
    parameters = LoadParm()
    parameters.load(conf)
    db = SamDB(session_info=system_session(), lp=parameters)
    if command == "create":
        set_policy(db)
        for name, password in zip(words[::2], words[1::2]):
            db.newuser(name, password)
    elif command == "bad-passwords":
        print(bad_passwords(db, words[0]))
    elif command == "forgive":
        db.unlock_account(f"(sAMAccountName={words[0]})")
    else:
        sys.exit(__doc__)


main()
