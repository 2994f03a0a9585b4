# shellcheck shell=bash disable=SC2154
# A gateway for an office: HAProxy in front of two of ours, of which one dies. Sourced by run; see
# cases.sh.

# start_gateway PARENT LINE...: sets $proxy, which is HAProxy, and $proxy_name to the first of ours
start_gateway() {
	local port name
	[[ -z ${proxy_name:-} ]] || stop 5 "$proxy_name" || true
	proxy_name=ntlmaps-one
	gateway_lines=("$@")
	for name in one two; do start_ntlmaps ntlmaps-$name 0 "$@"; done
	port=$(free_port)
	# but for timeouts and addresses that of the README
	cat >"$state/haproxy.cfg" <<-X
		global
		    stats socket $state/haproxy.sock
		defaults
		    mode tcp
		    option redispatch 1
		    option srvtcpka
		    srvtcpka-idle 30s
		    srvtcpka-intvl 10s
		    srvtcpka-cnt 3
		    timeout connect 5s
		    timeout client 1h
		    timeout server 1h
		listen ntlmaps
		    bind 127.0.0.1:$port
		    balance leastconn
		    option httpchk GET /proxy.pac
		    default-server check inter 500ms fall 2 rise 1
		    server one 127.0.0.1:$(listening_line ntlmaps-one)
		    server two 127.0.0.1:$(listening_line ntlmaps-two)
	X
	start haproxy haproxy -db -f "$state/haproxy.cfg"
	within 10 listens "$port" || { cat "$state/log/haproxy" >&2; die 'HAProxy does not start'; }
	proxy=http://127.0.0.1:$port
}

# is NAME up|down: to HAProxy. In its table of states, the sixth word is 0 or 2.
is() {
	local code=0
	[[ $2 = down ]] || code=2
	echo 'show servers state' | timeout 5 nc -U -N "$state/haproxy.sock" | awk -v name="$1" -v code=$code \
		'$4 == name { found = ($6 == code) } END { exit !found }'
}

# put_back NAME: it listens where HAProxy expects it, and HAProxy knows
put_back() {
	local port
	is "$1" down || within 10 is "$1" down || fail 'HAProxy did not see it go'
	port=$(sed -n "s/^ *server $1 127.0.0.1://p" "$state/haproxy.cfg")
	start_ntlmaps "ntlmaps-$1" "$port" "${gateway_lines[@]}"
	within 10 is "$1" up || fail 'HAProxy does not use it again'
}

# A case that failed may have left one dead.
all_serve() {
	local name
	for name in one two; do ! gone "ntlmaps-$name" || put_back $name; done
}

# asked NAME: how many requests it got
asked() { grep -c 'DEBUG .* request [A-Z]* ' "$state/log/ntlmaps-$1" || true; }

# The first case: without it the others would say little.
both_serve() {
	within 10 is one up || fail 'HAProxy does not see the first'
	within 10 is two up || fail 'HAProxy does not see the second'
	many http 200
	[[ $(asked one) -gt 0 && $(asked two) -gt 0 ]] || fail "not both were asked: $(asked one), $(asked two)"
}

# A client finds the gateway in the PAC file, and not one of ours behind it.
pac_names_gateway() {
	curl_ --noproxy '*' "$proxy/proxy.pac" >"$state/case/body"
	grep -qF "PROXY ${proxy#http://}" "$state/case/body" || fail "$(<"$state/case/body")"
}

end() { # SIGNAL NAME
	local pid
	pid=$(pid_of "ntlmaps-$2") || fail 'it does not run'
	kill "-$1" "$pid"
}

# ---- a request that is held where it is, while ours dies -----------------------------------------

reached() { grep -q "GET .*/gate/$1" "$state"/log/ntlmaps-{one,two}; }

who_has() { [[ $(grep -l "GET .*/gate/$1" "$state"/log/ntlmaps-{one,two}) = *one ]] && echo one || echo two; }

# held SIGNAL SCHEME [CURL_OPTION...]: prints what became of it
held() {
	local gate=gate-$BASHPID client name code=0
	all_serve
	curl_ "${@:3}" -o "$state/case/held" -w '%{http_code}' "${origin[$2]}/gate/$gate" >"$state/case/status" &
	client=$!
	ends_with_case $client
	within 10 reached "$gate" || fail 'the request did not arrive'
	name=$(who_has "$gate")
	end "$1" "$name"
	within 10 is "$name" down || fail 'HAProxy did not see it go'
	straight "/open/$gate" >/dev/null
	wait $client || code=$?
	[[ $1 = KILL ]] || within 5 gone "ntlmaps-$name" || fail 'it does not end'
	(put_back "$name")
	return $code
}

held_goes_on() {
	held TERM http
	same status 200 "$(<"$state/case/status")"
	cmp "$state/www/page/gate.bmp" "$state/case/held" || fail 'the body differs'
}

held_is_repeated() {
	held KILL http --retry 3 --retry-all-errors
	same status 200 "$(<"$state/case/status")"
	cmp "$state/www/page/gate.bmp" "$state/case/held" || fail 'the body differs'
}

# Two clients keep a connection, to one of ours each, which dies while they are idle.
kept_connection() {
	local code='
import os, requests, select, sys
url, pid = sys.argv[1], int(sys.argv[2])
sessions = [requests.Session(), requests.Session()]
assert [session.get(url, timeout=20).status_code for session in sessions] == [200, 200]
opened = [fd for fd in range(3, 64) if os.path.realpath(f"/proc/self/fd/{fd}").rpartition("/")[2].startswith("socket:")]
assert len(opened) == 2, opened
os.kill(pid, 9)
assert select.select(opened, [], [], 10)[0], "no end came"
print([session.get(url, timeout=20).status_code for session in sessions])'
	http_proxy=$proxy timeout 60 /usr/bin/python3 -c "$code" "${origin[http]}/" "$(pid_of ntlmaps-two)" \
		>"$state/case/seen" 2>"$state/case/requests.err" || fail "requests: $(tail -n 1 "$state/case/requests.err")"
	same statuses '[200, 200]' "$(<"$state/case/seen")"
	put_back two
}

# ---- load ----------------------------------------------------------------------------------------

# under_load SIGNAL SCHEME CURL_OPTION...: 12 clients at a time, 150 requests, of which each has a
# connection of its own; one of ours gets the signal after 50. Sets $broken to how many failed.
under_load() {
	local client seen=$state/case/seen.err
	mkdir "$state/case/bodies"
	all_serve
	touch "$seen"
	seq 150 | timeout 120 xargs -P 12 -I @@ curl -q -s -m 60 --noproxy '' -x "$proxy" --cacert "$ca" "${@:3}" \
		-o "$state/case/bodies/@@" -w '%{exitcode} %{http_code} %{time_total} @@\n' "${origin[$2]}/bytes/100000" >>"$seen" &
	client=$!
	ends_with_case $client
	within 60 many_seen 50 || fail 'no load'
	end "$1" two
	wait $client || true
	same 'requests that ended' 150 "$(wc -l <"$seen")"
	broken=$(grep -vc '^0 200 ' "$seen" || true)
	((broken < 150)) || fail "all are lost; exit code, status and seconds of the first: $(head -n 1 "$seen")"
	# whatever did not fail is whole
	cd "$state/case/bodies" || fail "no folder"
	awk '/^0 200 / { print $4 }' "$seen" | xargs sha256sum | cut -d' ' -f1 | sort -u >"$state/case/hashes"
	same sha256 "${hashes[100000]}" "$(<"$state/case/hashes")"
	put_back two
}

many_seen() { [[ $(wc -l <"$state/case/seen.err") -ge $1 ]]; }

none_lost() { # SIGNAL SCHEME [CURL_OPTION...]
	under_load "$@"
	same 'requests lost' 0 "$broken"
}

# Clients that do not repeat: what was under way is lost, and nothing that came later.
only_those_under_way() { # SIGNAL SCHEME
	under_load "$@"
	((broken <= 12)) || fail "$broken requests lost"
}
