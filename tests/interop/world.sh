# shellcheck shell=bash disable=SC2154,SC2034
# What stands behind ntlmaps: a domain controller, four Squids, an origin, sshd.
# Sourced by run with $here set. Everything lies in $state and listens on 127.0.0.1.

alice_password='Secret-123'
nasty_user='böb' nasty_password='pä$$ wörd:"€' # colon, quote, blank and beyond Latin-1: for the file's grammar

make_state() {
	state=$(mktemp -d "${TMPDIR:-/tmp}/ntlmaps-interop.XXXXXX")
	mkdir "$state"/{pids,log,www,git,case,home}
	chmod 711 "$state" # Squid's user has to pass through
}

# ---- domain controller -------------------------------------------------------------------------

samba_conf() {
	local dir=$state/samba
	cat <<-X
		[global]
		workgroup = CORP
		realm = CORP.EXAMPLE.COM
		netbios name = DC1
		server role = active directory domain controller
		# enough for winbindd to check a logon
		server services = rpc, ldap, cldap, kdc, winbindd
		prefork children = 1
		interfaces = 127.0.0.1
		bind interfaces only = yes
		disable netbios = yes
		# else it makes an RSA key first
		tls enabled = no
		ldb:nosync = yes
		ntlm auth = ntlmv2-only
		private dir = $dir/private
		state directory = $dir/state
		cache directory = $dir/cache
		lock directory = $dir/lock
		pid directory = $dir/pid
		ncalrpc dir = $dir/ncalrpc
		binddns dir = $dir/dns
		logging = file
		log file = $dir/samba.log
		log level = 1 auth_json_audit:3@$dir/logons.json
		[sysvol]
		path = $dir/state/sysvol
		[netlogon]
		path = $dir/state/sysvol/corp.example.com/scripts
	X
}

domain() { timeout 30 /usr/bin/python3 "$here/domain.py" "$state/samba/smb.conf" "$@"; }

start_domain() {
	local dir=$state/samba port log=$state/log/provision
	for port in 88 135 389 464 3268; do
		! listens $port || die "port $port is taken (no namespace of our own here): is another domain controller running?"
	done
	mkdir -p "$dir"/{private,state,cache,lock,pid,ncalrpc} /run/samba
	chmod 700 "$dir/private"
	samba_conf >"$dir/smb.conf"
	{
		timeout 120 samba-tool domain provision -s "$dir/smb.conf" --server-role=dc --realm=CORP.EXAMPLE.COM \
			--domain=CORP --host-name=dc1 --host-ip=127.0.0.1 --dns-backend=NONE --adminpass=Admin-of-CORP-1 --quiet
		domain create alice "$alice_password" bob "$alice_password" "$nasty_user" "$nasty_password"
	} >"$log" 2>&1 || { cat "$log" >&2; die "the domain could not be provisioned"; }
	# Squid's helpers ask winbindd as user proxy, through a pipe that lies in this folder. winbindd
	# insists on root and 0750, but the group is free.
	mkdir -p "$dir/state/winbindd_privileged"
	chgrp proxy "$dir/state/winbindd_privileged"
	chmod 750 "$dir/state/winbindd_privileged"
	start samba samba --foreground --no-process-group -s "$dir/smb.conf"
	within 30 timeout 5 wbinfo -p ||
		{ tail -n 20 "$state/log/samba" "$dir/samba.log" >&2; die "winbindd does not answer"; }
}

# logons USER: how many NTLM logons of the user the domain controller has judged so far
logons() {
	grep '"authDescription": "NTLM_AUTH' "$state/samba/logons.json" | grep -c "\"clientAccount\": \"$1\"" || true
}

# ---- Squid -------------------------------------------------------------------------------------

# squid_auth NAME: the lines that tell how this Squid wants its clients to log on
squid_auth() {
	local helper="/usr/bin/ntlm_auth --configfile=$state/samba/smb.conf --helper-protocol"
	case $1 in
	keep) echo "auth_param ntlm program $helper=squid-2.5-ntlmssp" ;;
	close) printf '%s\n' "auth_param ntlm program $helper=squid-2.5-ntlmssp" 'auth_param ntlm keep_alive off' ;;
	negotiate) echo "auth_param negotiate program $helper=gss-spnego" ;;
	digest)
		echo "alice:$alice_password" >"$state/digest-users"
		echo "auth_param digest program /usr/lib/squid/digest_file_auth $state/digest-users"
		echo "auth_param digest realm Corp"
		;;
	esac
}

declare -A ports

# start_squid NAME: one that lets nobody through without a logon, at 127.0.0.1:${ports[NAME]}
start_squid() {
	local dir=$state/squid-$1
	: "${ports[$1]:=$(free_port)}"
	mkdir -p "$dir"
	chown proxy "$dir"
	echo '127.0.0.1 localhost origin.example' >"$dir/hosts"
	# Two addresses are set so that no socket of its DNS client is open to the outside;
	# max_filedescriptors because it makes a table of that size, and containers may allow 10^9.
	cat >"$dir/squid.conf" <<-X
		http_port 127.0.0.1:${ports[$1]}
		$(squid_auth "$1")
		acl somebody proxy_auth REQUIRED
		acl tunnels port $http_port $https_port $ssh_port $closed_port
		http_access deny CONNECT !tunnels
		http_access allow somebody
		http_access deny all
		visible_hostname parent-$1.corp.example.com
		hosts_file $dir/hosts
		dns_nameservers 127.0.0.1
		dns_timeout 1 second
		udp_incoming_address 127.0.0.1
		udp_outgoing_address 127.0.0.1
		icp_port 0
		pinger_enable off
		cache deny all
		http_upgrade_request_protocols websocket allow all
		max_filedescriptors 4096
		shutdown_lifetime 0 seconds
		cache_effective_user proxy
		coredump_dir $dir
		pid_filename $dir/pid
		cache_log $dir/cache.log
		access_log stdio:$dir/access.log squid
		netdb_filename none
	X
	# -n names its shared memory, of which there is one set on the machine
	start "squid-$1" squid -N -n "interop$$$1" -f "$dir/squid.conf"
	within 20 listens "${ports[$1]}" || { tail -n 20 "$dir/cache.log" "$state/log/squid-$1" >&2; die "squid-$1 does not listen"; }
}

# ---- origin ------------------------------------------------------------------------------------

make_certificate() {
	ca=$state/ca.pem
	local ec=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
	{
		openssl req -x509 "${ec[@]}" -days 30 -subj '/CN=Interop CA' -keyout "$state/ca.key" -out "$ca"
		openssl req "${ec[@]}" -subj '/CN=origin.example' -keyout "$state/tls.key" -out "$state/tls.csr"
		openssl x509 -req -in "$state/tls.csr" -CA "$ca" -CAkey "$state/ca.key" -set_serial 2 -days 30 \
			-extfile <(echo 'subjectAltName=DNS:origin.example,DNS:localhost,IP:127.0.0.1') -out "$state/tls.crt"
	} 2>"$state/log/openssl" || { cat "$state/log/openssl" >&2; die "no certificate"; }
	cat "$state/tls.crt" "$state/tls.key" >"$state/tls.pem"
}

start_origin() {
	make_certificate
	start origin /usr/bin/python3 "$here/origin.py" "$state"
	within 10 test -e "$state/origin.ports" || { cat "$state/log/origin" >&2; die "the origin does not start"; }
	read -r http_port https_port <"$state/origin.ports"
	origin_known_to_squid
}

# By a name that Squid alone can resolve; a function, as cases without a parent need another.
declare -A origin
origin_known_to_squid() {
	origin=([http]=http://origin.example:$http_port [https]=https://origin.example:$https_port)
}

# ---- sshd --------------------------------------------------------------------------------------

# One that lets root in with the key $state/ssh/key, and nobody else.
start_sshd() {
	local dir=$state/ssh name
	mkdir -p "$dir" /run/sshd
	for name in key host_key; do ssh-keygen -q -t ed25519 -N '' -C interop -f "$dir/$name"; done
	echo "interop $(<"$dir/host_key.pub")" >"$dir/known_hosts"
	ssh_port=$(free_port) closed_port=$(free_port)
	# Nobody listens at closed_port. StrictModes would want no folder above the key to be writable by others, as /tmp is.
	cat >"$dir/sshd_config" <<-X
		ListenAddress 127.0.0.1:$ssh_port
		HostKey $dir/host_key
		AuthorizedKeysFile $dir/key.pub
		PidFile none
		StrictModes no
		UsePAM no
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		PermitRootLogin prohibit-password
		SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
	X
	start sshd /usr/sbin/sshd -D -e -f "$dir/sshd_config"
	within 10 listens "$ssh_port" || { cat "$state/log/sshd" >&2; die "sshd does not start"; }
}

# The options of an ssh that knows neither this machine's configuration nor its user's
set_our_ssh() {
	local dir=$state/ssh
	our_ssh=(ssh -F none -i "$dir/key" -l root -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20
		-o UserKnownHostsFile="$dir/known_hosts" -o GlobalKnownHostsFile=none -o HostKeyAlias=interop
		-o StrictHostKeyChecking=yes)
}

start_world() {
	local repositories name
	start_origin
	start_sshd
	set_our_ssh
	make_repositories &
	repositories=$!
	record repositories $repositories # ended with the rest, should the script end early
	start_domain
	wait "$repositories" || { cat "$state/log/repositories" >&2; die "the repositories could not be made"; }
	for name in keep close negotiate digest; do start_squid $name; done
}
