# shellcheck shell=bash disable=SC2154
# What a client does, and what is expected of it. Sourced by run; every case function runs in a
# subshell with -e, speaks to $proxy, keeps its files in $state/case, and says `fail` or returns 0.
# SCHEME is http or https and stands for the origin's address, ${origin[SCHEME]}.

# ---- ntlmaps -----------------------------------------------------------------------------------

proxies=0 ntlmaps_options=()

# start_ntlmaps NAME PORT PARENT [LINE...]: starts one with $ntlmaps_options. PARENT is one of the
# Squids, or nobody (a port where nobody listens), or direct (there is none).
start_ntlmaps() {
	local address config=$state/$1.cfg
	parent=$3
	case $parent in
	direct) address='' ;;
	nobody) address=127.0.0.1:$(free_port) ;;
	*) address=127.0.0.1:${ports[$parent]} ;;
	esac
	printf '%s\n' '[GENERAL]' "LISTEN_PORT: $2" "PARENT_PROXY: $address" "${@:4}" >"$config"
	start "$1" "$ntlmaps" -v -v -c "$config" "${ntlmaps_options[@]}"
	within 10 started "$1" || true
	listening_line "$1" >/dev/null || check "$1 starts" fail 'does not say where it listens'
}

# ntlmaps_to PARENT [LINE...]: ends the previous ntlmaps, starts a fresh one, sets $proxy.
ntlmaps_to() {
	[[ -z ${proxy_name:-} ]] || stop 5 "$proxy_name" || true
	proxies=$((proxies + 1))
	proxy_name=ntlmaps-$proxies
	start_ntlmaps "$proxy_name" 0 "$@"
	proxy=http://127.0.0.1:$(listening_line || echo 9) # where nobody is
}

# hashed KEY: a configuration that holds this line of `ntlmaps --hash` and not the password
hashed() {
	printf '%s\n' '[NTLM_AUTH]' 'NT_DOMAIN: CORP' 'USER: alice'
	timeout 10 "$ntlmaps" --hash --domain CORP --username alice <<<"$alice_password" | grep "^$1:" || true
}

started() { listening_line "$1" || gone "$1"; } # or not, but decided

listening_line() { # [NAME]: the port it says it listens on
	sed -n 's/^Now listening at 127\.0\.0\.1 on port \([0-9]*\)$/\1/p' "$state/log/${1:-$proxy_name}" | grep -m 1 .
}

ends() { # one of this shell's own, since only a parent gets to know the exit code
	local pid port line code=0
	"$ntlmaps" -v -v -c "$state/$proxy_name.cfg" </dev/null >"$state/log/ntlmaps-ending" 2>&1 &
	pid=$!
	record ntlmaps-ending $pid
	within 10 listening_line ntlmaps-ending || fail 'does not listen'
	port=$(listening_line ntlmaps-ending)
	exec 3<>"/dev/tcp/127.0.0.1/$port" # a client that keeps its connection, idle
	printf 'HEAD %s/ HTTP/1.1\r\nHost: origin\r\n\r\n' "${origin[http]}" >&3
	read -r -t 10 line <&3 || fail 'no response'
	same response 'HTTP/1.1 200' "${line:0:12}"
	stop 5 ntlmaps-ending || fail 'had to be killed'
	wait $pid || code=$?
	same 'exit code' 0 $code
}

# Clients that were let into the queue before it was told to end are served.
ends_after_the_queue() {
	local pid port client
	pid=$(pid_of "$proxy_name")
	port=${proxy##*:}
	kill -STOP "$pid"
	many http 200 12 &
	client=$!
	ends_with_case $client
	within 10 queue_holds "$port" 12 || { kill -CONT "$pid"; fail 'the clients do not come'; }
	kill -TERM "$pid"
	kill -CONT "$pid"
	wait $client || exit # it said why
}

queue_holds() { # PORT COUNT
	[[ $(ss -Hltn "src 127.0.0.1:$1" | awk '{ print $2 }') -ge $2 ]]
}

# ---- curl --------------------------------------------------------------------------------------

any_curl() {
	timeout 40 curl -q -sS -m 30 --connect-timeout 10 --noproxy '' -x "$proxy" --cacert "$ca" "$@" \
		2>"$state/case/curl.err"
}

curl_() { any_curl "$@" || fail "$(tail -n 1 "$state/case/curl.err")"; }

# ask SCHEME PATH [OPTION...]: sets $status; body and head are in the case's folder
ask() {
	curl_ -o "$state/case/body" -D "$state/case/head" -w '%{http_code}' "${@:3}" "${origin[$1]}$2" >"$state/case/status"
	status=$(<"$state/case/status")
}

# answer_to SCHEME [OPTION...]: the same for a request that the proxy is to refuse. The refusal of a
# CONNECT is an error to curl, and its body is not shown.
answer_to() {
	any_curl -o "$state/case/body" -D "$state/case/head" -w '%{http_connect}\n%{http_code}\n' \
		"${@:2}" "${origin[$1]}/" >"$state/case/status" || true
	status=$(grep -v 000 "$state/case/status" || cat "$state/case/curl.err")
}

text() { # SCHEME [OPTION...]
	ask "$1" / "${@:2}"
	same status 200 "$status"
	same body 'hello from the origin' "$(<"$state/case/body")"
}

refused() { # SCHEME
	answer_to "$1"
	same status 407 "$status"
}

head_only() {
	ask "$1" /bytes/12345 -I
	same status 200 "$status"
	grep -qi '^Content-Length: 12345' "$state/case/head" || fail "no Content-Length: $(<"$state/case/head")"
}

not_found() {
	ask "$1" /nowhere
	same status 404 "$status"
	same body 'no such resource' "$(<"$state/case/body")"
}

# straight PATH [OPTION...]: from the origin itself, to know what is expected
straight() {
	timeout 30 curl -q -sS --fail --noproxy '*' "http://127.0.0.1:$http_port$1" "${@:2}"
}

declare -A hashes
prepare_files() {
	straight /bytes/10485760 -o "$state/upload" || die "the origin does not serve"
	hashes[upload]=$(sha256sum "$state/upload" | cut -d' ' -f1)
	hashes[100000]=$(straight /digest/100000)
	hashes[200000000]=$(straight /digest/200000000)
}

upload() { # SCHEME length|chunked [OPTION...]
	local as=(-H 'Expect: 100-continue')
	[[ $2 = length ]] || as+=(-H 'Transfer-Encoding: chunked')
	ask "$1" /echo --data-binary "@$state/upload" "${as[@]}" "${@:3}"
	same status 200 "$status"
	# Squid may choose another framing towards the origin, so that word is not compared
	same echo "POST 10485760 ${hashes[upload]}" "$(cut -d' ' -f1,3,4 "$state/case/body")"
}

put() {
	ask "$1" /echo -T "$state/upload"
	same status 200 "$status"
	same echo "PUT length 10485760 ${hashes[upload]}" "$(<"$state/case/body")"
}

download() { # SCHEME RESOURCE BYTES
	local seen
	seen=$(set -o pipefail; curl_ --fail "${origin[$1]}/$2/$3" | sha256sum | cut -d' ' -f1) || fail "${seen:-no body}"
	same sha256 "${hashes[$3]}" "$seen"
}

no_chunks() { # SCHEME: an HTTP/1.0 client cannot read them
	ask "$1" /chunked/100000 --http1.0 --raw
	same status 200 "$status"
	! grep -i '^Transfer-Encoding' "$state/case/head" || fail "Transfer-Encoding in the response"
	same sha256 "${hashes[100000]}" "$(sha256sum "$state/case/body" | cut -d' ' -f1)"
}

one_connection() { # SCHEME: a client that keeps its connection, with and without bodies
	# --next forgets the options before it
	local url=${origin[$1]} each=(--noproxy '' -x "$proxy" -o /dev/null -w '%{num_connects} %{http_code}\n')
	curl_ "${each[@]}" "$url/" --next "${each[@]}" -I "$url/bytes/5" --next "${each[@]}" --data-binary "@$state/upload" \
		"$url/echo" --next "${each[@]}" "$url/nowhere" --next "${each[@]}" "$url/chunked/100000" >"$state/case/status"
	same 'connections and statuses' '1 200 0 200 0 200 0 404 0 200' "$(xargs <"$state/case/status")"
}

many() { # SCHEME STATUS [COUNT]
	local codes count=${3:-60}
	codes=$(seq "$count" | timeout 60 xargs -P 12 -I N curl -q -s -m 30 --noproxy '' -x "$proxy" \
		-o /dev/null -w '%{http_code}\n' "${origin[$1]}/bytes/N" | sort | uniq -c | xargs) || true # the codes tell
	same 'count and status' "$count $2" "$codes"
}

one_handshake() {
	local before
	before=$(logons alice)
	for _ in {1..20}; do text "$1"; done
	same 'logons at the domain controller' 1 $(($(logons alice) - before))
}

restarted() { # CASE ARGUMENT...
	text http # so that ntlmaps holds a connection that is about to die
	stop 5 squid-keep || true
	rm -f "$state/squid-keep/pid"
	start_squid keep
	"$@"
}

# ---- accounts ----------------------------------------------------------------------------------

asks_for_basic() { # SCHEME [OPTION...]
	answer_to "$@"
	same status 407 "$status"
	grep -qi '^Proxy-Authenticate: Basic realm=' "$state/case/head" || fail "does not offer Basic: $(<"$state/case/head")"
}

# bad_passwords_of_bob EXPECTED: each counts towards the lockout of the account
bad_passwords_of_bob() { same 'bad passwords' "$1" "$(domain bad-passwords bob)"; }

wrong_password() { # SCHEME
	refused "$1"
	bad_passwords_of_bob 1
	grep -qi password "$state/case/body" || fail "the body does not explain: $(head -c 300 "$state/case/body")"
}

no_lockout() {
	for _ in {1..8}; do refused http; done
	for _ in {1..2}; do refused https; done
	bad_passwords_of_bob 1
}

no_lockout_at_once() { # as when a session starts and every program wants the network
	many http 407
	bad_passwords_of_bob 1
}

no_lockout_by_basic() {
	for _ in {1..5}; do asks_for_basic http -U 'bob:Wrong-123'; done
	bad_passwords_of_bob 1
}

parent_down() { # SCHEME
	local address
	address=$(sed -n 's/^PARENT_PROXY: //p' "$state/$proxy_name.cfg")
	answer_to "$1"
	same status 502 "$status"
	[[ $1 = https ]] || grep -qF "$address" "$state/case/body" ||
		fail "$address is not in the body: $(head -c 300 "$state/case/body")"
}

# ---- in the end --------------------------------------------------------------------------------

no_secrets() {
	local secret found=''
	local secrets=("$alice_password" "$nasty_password" Wrong-123 Key-1 Key-2 # and as Basic carries them:
		"$(printf %s "alice:$alice_password" | base64)" "$(printf %s "CORP\\alice:$alice_password" | base64)"
		TlRMTVNTUAAD 4e544c4d5353500003) # an AUTHENTICATE message, in base64 and in hexadecimal
	[[ -s $state/log/ntlmaps-1 ]] || fail "ntlmaps printed nothing at all"
	for secret in "${secrets[@]}"; do
		! grep -aiF -m 1 -H -e "$secret" "$state"/log/ntlmaps-* | cut -c1-200 || found+=" $secret"
	done
	[[ -z $found ]] || fail "printed:$found"
}

no_leak() {
	grep -qi '^> host:' "$state/log/origin" || fail "the origin's log is not what this case expects"
	! grep -i -B 5 '^> proxy-authorization' "$state/log/origin" || fail 'the origin received one'
}
