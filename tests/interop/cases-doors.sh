# shellcheck shell=bash disable=SC2154
# TUNNELS, -L and SOCKS5. Sourced by run; see cases.sh.

through_tunnel() { # PORT
	proxy='' text https --connect-to "::127.0.0.1:$1"
}

through_socks() { # PORT
	proxy=socks5h://127.0.0.1:$1 text https
}
