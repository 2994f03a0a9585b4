# shellcheck shell=bash disable=SC2154
# Packages, processes, waiting, reporting. Sourced by run, which sets $state, the scratch folder.

die() {
	echo "interop: $*" >&2
	exit 1
}

# ---- packages ----------------------------------------------------------------------------------

packages=(samba samba-ad-dc samba-ad-provision winbind squid iproute2 python3 openssl
	curl wget git apt-utils dnf createrepo-c rpm openssh-server openssh-client netcat-openbsd
	npm python3-pip python3-requests python3-websocket openjdk-17-jdk-headless chromium libnss3-tools haproxy)
# These may also come from elsewhere, or in another package.
declare -A programs=([squid]=/usr/sbin/squid [npm]=npm [openjdk-17-jdk-headless]=javac)

missing_packages() {
	local name
	for name in "${packages[@]}"; do
		[[ -z ${programs[$name]:-} ]] || ! command -v "${programs[$name]}" >/dev/null || continue
		[[ $(dpkg-query -Wf '${db:Status-Status}' "$name" 2>/dev/null) = installed ]] || echo "$name"
	done
}

install_packages() {
	local guard=/usr/sbin/policy-rc.d guarded='' names log failed=''
	mapfile -t names < <(missing_packages)
	[[ ${#names[@]} -gt 0 ]] || return 0
	echo "interop: installing ${names[*]}"
	# Samba and Squid would start with their packaged configuration and take the ports.
	if [[ ! -e $guard ]]; then
		printf '#!/bin/sh\nexit 101\n' >$guard
		chmod 755 $guard
		guarded=yes
	fi
	log=$(mktemp)
	apt_install() {
		DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -qq -y --no-install-recommends "${names[@]}"
	}
	{ apt_install || { timeout 300 apt-get update -qq && apt_install; }; } </dev/null >"$log" 2>&1 || failed=yes
	[[ -z $guarded ]] || rm -f $guard
	[[ -z $failed ]] || tail -n 30 "$log" >&2
	rm -f "$log"
	[[ -z $failed ]] || die "apt-get could not install them"
}

# ---- waiting -----------------------------------------------------------------------------------

# within SECONDS COMMAND...: repeats the command until it succeeds; fails once the time is over
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# ---- processes: each has a name, $state/pids/NAME and $state/log/NAME --------------------------

# The kernel may give the number of a dead process to a stranger, but not together with its start
# time: the 20th word after the command's name, which stands in brackets and may hold blanks.
start_time() {
	local line words
	read -r line 2>/dev/null <"/proc/$1/stat" || return 1
	read -ra words <<<"${line##*) }"
	[[ ${words[0]} != Z ]] && echo "${words[19]}"
}

# pid_of NAME: prints its number while it runs, fails otherwise
pid_of() {
	local pid since
	read -r pid since 2>/dev/null <"$state/pids/$1" && [[ $(start_time "$pid") = "$since" ]] && echo "$pid"
}

gone() { ! pid_of "$1" >/dev/null; }

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches the script and not them
start() {
	local name=$1 pid
	shift
	setsid "$@" </dev/null >"$state/log/$name" 2>&1 &
	pid=$!
	disown # bash would report its end
	record "$name" $pid
}

record() { # NAME PID
	echo "$2 $(start_time "$2")" >"$state/pids/$1"
}

# stop SECONDS NAME...: asks them all, waits, ends by force what is left; fails if force was needed
stop() {
	local patience=$1 name pid forced=0
	shift
	for name; do pid=$(pid_of "$name") && kill -TERM "$pid" 2>/dev/null; done
	for name; do
		within "$patience" gone "$name" || {
			forced=1
			pid=$(pid_of "$name") && kill -KILL "$pid" 2>/dev/null
			within 5 gone "$name"
		}
		rm -f "$state/pids/$name"
	done
	return $forced
}

stop_everything() {
	local path names=()
	for path in "$state"/pids/*; do [[ -e $path ]] && names+=("${path##*/}"); done
	# Squid takes two ticks of its clock to leave; there is nothing of its to save.
	[[ ${#names[@]} -eq 0 ]] || stop 3 "${names[@]}" || true
}

# ---- reporting ---------------------------------------------------------------------------------

failures=0 pending=0 cases=0

# Inside a case: says why and ends it. Through a file, as it may be called where the output goes
# elsewhere; the first reason counts, being the innermost.
fail() {
	[[ -s $state/case/why ]] || echo "$*" >"$state/case/why"
	exit 1
}

# ends_with_case PID: what the case left in the background would write into the next one's folder
ends_with_case() {
	# shellcheck disable=SC2064 # now
	trap "kill $1 2>/dev/null || true; wait $1 || true" EXIT
}

same() { # WHAT EXPECTED SEEN
	[[ $2 = "$3" ]] || fail "$1: expected '$2', got '$3'"
}

# check NAME FUNCTION ARGUMENT...: runs one case in a subshell and prints its line
check() {
	local name=$1 code begun=$SECONDS slow=''
	shift
	cases=$((cases + 1))
	rm -rf "$state/case"
	mkdir "$state/case"
	set +e # not `if` or `||`: they would switch -e off inside the case as well
	(set -e; "$@") >"$state/case/output.err" 2>&1
	code=$?
	set -e
	((SECONDS - begun < 3)) || slow=" ($((SECONDS - begun)) s)"
	[[ $code = 0 || -s $state/case/why ]] || echo "ended with code $code" >"$state/case/why"
	if [[ $code = 0 ]]; then
		echo "ok   $name$slow"
	elif [[ -n ${to_come:-} ]]; then
		pending=$((pending + 1))
		echo "todo $name: $(<"$state/case/why")$slow"
	else
		failures=$((failures + 1))
		echo "FAIL $name: $(<"$state/case/why")$slow"
		show_logs
	fi
}

# todo NAME FUNCTION ARGUMENT...: the same for what ntlmaps is to learn yet: no failure. Once such a
# case is ok, make it a check.
todo() {
	local to_come=yes
	check "$@"
}

show_logs() {
	local file
	for file in "$state"/case/*.err "$state/log/${proxy_name:-none}" "$state/squid-$parent"/{access,cache}.log; do
		[[ -s $file ]] || continue
		echo "     --- ${file#"$state"/}"
		tail -n 15 "$file" | cut -c1-300 | sed 's/^/     | /'
	done
}
