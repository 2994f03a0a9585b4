# shellcheck shell=bash disable=SC2154
# TUNNELS, -L and SOCKS5. Sourced by run; see cases.sh.

through_tunnel() { # PORT
	proxy='' text https --connect-to "::127.0.0.1:$1"
}

through_socks() { # PORT [SCHEME [USER:PASSWORD]]
	proxy=socks5h://${3:+$3@}127.0.0.1:$1 text "${2:-https}"
}

# socks_reply PORT HOST:PORT CODE: what the SOCKS5 server answered to a client it cannot serve
socks_reply() {
	! any_curl -x "socks5h://127.0.0.1:$1" "http://$2/" || fail 'was served'
	grep -q "connection to .*($3)" "$state/case/curl.err" || fail "$(<"$state/case/curl.err")"
}

socks_refuses() { # PORT [USER:PASSWORD]
	! any_curl -x "socks5h://${2:+$2@}127.0.0.1:$1" "${origin[https]}/" >"$state/case/body" || fail 'was served'
	[[ ! -s $state/case/body ]] || fail 'a body came'
	grep -qi 'SOCKS5\|authentication' "$state/case/curl.err" || fail "$(<"$state/case/curl.err")"
}

# socks_with [USER:PASSWORD@]PORT CASE ARGUMENT...: a client that takes a SOCKS5 proxy as its proxy
socks_with() {
	local address=127.0.0.1:${1##*@}
	[[ $1 != *@* ]] || address=${1%@*}@$address
	proxy=socks5h://$address "${@:2}"
}

# ---- ssh ---------------------------------------------------------------------------------------

# ssh_there_and_back OPTION...: 10 MB each way; the options say how to reach the host
ssh_there_and_back() {
	local seen
	seen=$(set -o pipefail; timeout 60 "${our_ssh[@]}" "$@" cat <"$state/upload" 2>"$state/case/ssh.err" | sha256sum) ||
		fail "ssh: $(tail -n 1 "$state/case/ssh.err")"
	same sha256 "${hashes[upload]}" "${seen%% *}"
}

ssh_through_tunnel() { # PORT
	ssh_there_and_back -p "$1" 127.0.0.1
}

ssh_through_nc() { # NC_OPTION...: with the netcat of OpenBSD
	ssh_there_and_back -o ProxyCommand="nc $* %h %p" -p "$ssh_port" origin.example
}

# It knows no way to say a password: what asks for one is closed to it.
nc_has_no_password() { # PORT
	! (ssh_through_nc -X 5 -x "127.0.0.1:$1") || fail 'was served'
	rm -f "$state/case/why" # it was to fail, so what it says is no reason
	! timeout 20 nc -X 5 -x "127.0.0.1:$1" origin.example "$ssh_port" </dev/null 2>"$state/case/nc.err" || fail 'was served'
	grep -q 'method negotiation failed' "$state/case/nc.err" || fail "nc: $(<"$state/case/nc.err")"
}

# git_over_ssh PORT CASE: a git that is told nothing but where its ssh has to go
git_over_ssh() {
	origin[ssh]=ssh://127.0.0.1:$1$state
	GIT_SSH_COMMAND="${our_ssh[*]}" proxy='' "$2" ssh
}
