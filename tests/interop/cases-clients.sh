# shellcheck shell=bash disable=SC2154
# Clients that are not curl, each with the configuration that it needs. Sourced by run; see cases.sh.

wget_file() {
	timeout 60 wget --no-config -q -T 20 -t 1 --ca-certificate="$ca" -e use_proxy=yes -e "http_proxy=$proxy" \
		-e "https_proxy=$proxy" -O "$state/case/file" "${origin[$1]}/bytes/10485760" 2>"$state/case/wget.err" ||
		fail "wget ended with $?"
	cmp "$state/upload" "$state/case/file" || fail 'the file differs'
}

git_clone() {
	our_git -c http.proxy="$proxy" clone -q "${origin[$1]}/git/demo.git" "$state/case/clone" 2>"$state/case/git.err" ||
		fail "git clone ended with $?"
	same HEAD "$(our_git -C "$state/git/demo.git" rev-parse HEAD)" "$(our_git -C "$state/case/clone" rev-parse HEAD)"
}

git_push() {
	local clone=$state/case/clone
	git_clone "$1"
	head -c 2000000 /dev/urandom >"$clone/more"
	our_git -C "$clone" add more
	our_git -C "$clone" commit -q -m more
	# what does not fit into the buffer goes out chunked
	our_git -C "$clone" -c http.proxy="$proxy" -c http.postBuffer=65536 push -q origin main \
		2>"$state/case/git.err" || fail "git push ended with $?"
	same HEAD "$(our_git -C "$clone" rev-parse HEAD)" "$(our_git -C "$state/git/demo.git" rev-parse main)"
}

apt_client() { # SCHEME; in a root of its own, so that nothing of this machine's apt is read or written
	local root=$state/case/apt deb
	mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$root"/var/log/apt \
		"$root"/var/lib/{apt/lists/partial,dpkg} "$root"/var/cache/apt/archives/partial "$root/out"
	touch "$root/var/lib/dpkg/status"
	echo "deb [trusted=yes] ${origin[$1]}/files/apt ./" >"$root/etc/apt/sources.list"
	cat >"$root/conf" <<-X
		Dir "$root/";
		Dir::State::status "$root/var/lib/dpkg/status";
		Acquire::http::Proxy "$proxy";
		Acquire::https::Proxy "$proxy";
		Acquire::https::CAInfo "$ca";
		Acquire::http::Timeout "20";
		Acquire::Retries "0";
		Acquire::Languages "none";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
	X
	apt_() { timeout 60 env APT_CONFIG="$root/conf" apt-get -q "$@" >>"$state/case/apt.err" 2>&1 || fail "apt-get $1 ended with $?"; }
	apt_ update
	cd "$root/out" || fail 'no folder'
	apt_ download "${debs[@]}"
	same packages ${#debs[@]} "$(find . -name '*.deb' | wc -l)"
	for deb in *.deb; do cmp "$deb" "$state/www/apt/$deb" || fail "$deb differs"; done
}

dnf_client() { # SCHEME [USER PASSWORD]
	local root=$state/case/dnf package
	mkdir -p "$root"/{root,none}
	cat >"$root/dnf.conf" <<-X
		[main]
		gpgcheck=0
		plugins=0
		reposdir=$root/none
		varsdir=$root/none
		cachedir=$root/cache
		persistdir=$root/persist
		logdir=$root
		module_platform_id=platform:none
		timeout=20
		retries=1
		proxy=$proxy
		${2:+proxy_username=$2}
		${3:+proxy_password=$3}
		sslcacert=$ca
		[demo]
		name=demo
		baseurl=${origin[$1]}/files/rpm
	X
	dnf_() {
		timeout 60 dnf -q -y -c "$root/dnf.conf" --installroot="$root/root" --releasever=1 "$@" \
			>>"$state/case/dnf.err" 2>&1 || fail "dnf $1 ended with $?"
	}
	dnf_ makecache
	dnf_ install --downloadonly interop
	package=$(find "$root" -name 'interop-1-1.noarch.rpm')
	[[ -n $package ]] || fail "no package downloaded"
	cmp "$package" "$state/www/rpm/interop-1-1.noarch.rpm" || fail 'the package differs'
}

# with_account CASE ARGUMENT...: the client brings its own, in the proxy's URL
with_account() {
	proxy=http://alice:$alice_password@${proxy#http://}
	"$@"
}
