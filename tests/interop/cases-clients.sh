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

npm_client() { # SCHEME
	local root=$state/case/npm
	mkdir "$root"
	cd "$root" || fail 'no folder'
	echo '{}' >package.json
	cat >.npmrc <<-X
		proxy=$proxy
		https-proxy=$proxy
		registry=${origin[$1]}/files/npm/$1/
		cafile=$ca
		cache=$root/cache
		audit=false
		fund=false
		update-notifier=false
		fetch-retries=0
	X
	timeout 60 env HOME="$state/home" npm install interop >"$state/case/npm.err" 2>&1 || fail "npm ended with $?"
	cmp node_modules/interop/noise "$state/home/npm/package/noise" || fail 'the package differs'
}

pip_client() { # SCHEME
	local root=$state/case/pip
	mkdir "$root"
	printf '%s\n' '[global]' "proxy = $proxy" >"$root/pip.conf"
	timeout 60 env HOME="$state/home" PIP_CONFIG_FILE="$root/pip.conf" /usr/bin/python3 -m pip install -q --no-cache-dir \
		--disable-pip-version-check --root-user-action=ignore --retries 0 --cert "$ca" --trusted-host origin.example \
		--index-url "${origin[$1]}/files/pip/simple/" --target "$root/site" interop >"$state/case/pip.err" 2>&1 ||
		fail "pip ended with $?"
	cmp "$root/site/interop/noise" "$state/home/pip/interop/noise" || fail 'the package differs'
}

cargo_client() { # SCHEME
	local root=$state/case/cargo
	mkdir -p "$root"/{home,project/src}
	cat >"$root/home/config.toml" <<-X
		[http]
		proxy = "$proxy"
		cainfo = "$ca"
		[net]
		retry = 0
		[source.crates-io]
		replace-with = "interop"
		[source.interop]
		registry = "sparse+${origin[$1]}/files/cargo/$1/"
	X
	cd "$root/project" || fail 'no folder'
	printf '%s\n' '[package]' 'name = "project"' 'version = "1.0.0"' '[dependencies]' 'interop = "1"' >Cargo.toml
	touch src/lib.rs
	timeout 60 env CARGO_HOME="$root/home" cargo fetch >"$state/case/cargo.err" 2>&1 || fail "cargo ended with $?"
	cmp "$root"/home/registry/cache/*/interop-1.0.0.crate "$state/www/cargo/interop-1.0.0.crate" || fail 'the crate differs'
}

requests_client() { # SCHEME; as many programs do, it reads the environment
	local code='
import hashlib, requests, sys
with requests.Session() as session:
    got = session.get(sys.argv[1] + "/chunked/100000", timeout=20)
    sent = session.post(sys.argv[1] + "/echo", data=iter([b"one", b"two"]), timeout=20)
print(got.status_code, hashlib.sha256(got.content).hexdigest(), sent.text.split()[2])'
	http_proxy=$proxy https_proxy=$proxy REQUESTS_CA_BUNDLE=$ca timeout 60 /usr/bin/python3 -c "$code" "${origin[$1]}" \
		>"$state/case/seen" 2>"$state/case/requests.err" || fail "requests: $(tail -n 1 "$state/case/requests.err")"
	same 'status, sha256, length sent' "200 ${hashes[100000]} 6" "$(<"$state/case/seen")"
}

java_client() { # SCHEME
	local address=${proxy#http://} key seen options=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC) # sooner there
	for key in http https; do options+=("-D$key.proxyHost=${address%:*}" "-D$key.proxyPort=${address#*:}"); done
	cat >"$state/case/Fetch.java" <<-'X'
		public class Fetch {
			public static void main(String[] urls) throws Exception {
				for (String url : urls) {
					var connection = new java.net.URL(url).openConnection();
					connection.setReadTimeout(20000);
					try (var body = connection.getInputStream()) { body.transferTo(System.out); }
				}
			}
		}
	X
	keytool -importcert -noprompt -storepass changeit -alias interop -file "$ca" -keystore "$state/case/trust" 2>/dev/null
	seen=$(set -o pipefail; timeout 60 java "${options[@]}" -Djavax.net.ssl.trustStore="$state/case/trust" \
		-Djavax.net.ssl.trustStorePassword=changeit "$state/case/Fetch.java" "${origin[$1]}"/{bytes,chunked,until-close}/100000 2>"$state/case/java.err" |
		split -b 100000 --filter='sha256sum' | cut -d' ' -f1 | uniq) || fail "java: $(tail -n 1 "$state/case/java.err")"
	same sha256 "${hashes[100000]}" "$seen"
}

# websocket_client SCHEME [by-connect]: http asks with an Upgrade in an ordinary request, as a program
# may that speaks HTTP to proxies; by-connect is what browsers and most libraries do in either scheme
websocket_client() {
	timeout 60 /usr/bin/python3 - "${2:-$1}" "${origin[$1]/#http/ws}/ws" "${proxy#http://}" "$ca" >"$state/case/websocket.err" 2>&1 <<-'X' ||
		import os, socket, sys
		import websocket
		from websocket._handshake import handshake
		way, url, proxy, ca = sys.argv[1:]
		host, port = proxy.split(":")
		if way == "http":
		    client = websocket.WebSocket()
		    client.sock = socket.create_connection((host, int(port)), 20)
		    name, _, number = url.split("/")[2].partition(":")
		    client.handshake_response = handshake(client.sock, name, int(number), url.replace("ws", "http", 1))
		    client.connected = True
		else:
		    client = websocket.create_connection(url, timeout=20, http_proxy_host=host, http_proxy_port=port,
		                                         proxy_type="http", sslopt={"ca_certs": ca})
		for size in 0, 5, 125, 126, 65535, 65536, 1000000:
		    message = os.urandom(size)
		    client.send_binary(message)
		    assert client.recv() == message, size
		client.close()
	X
		fail "websocket: $(tail -n 1 "$state/case/websocket.err")"
}

# ---- Chromium ----------------------------------------------------------------------------------

# screenshot NAME URL OPTION...: of the page when all of it is there
screenshot() {
	local nss=$state/home/.pki/nssdb
	[[ -d $nss ]] || { mkdir -p "$nss" && certutil -d "sql:$nss" -N --empty-password && certutil -d "sql:$nss" -A -t C,, -n interop -i "$ca"; }
	# for root, without a screen, a keyring or a home to call
	timeout 90 env HOME="$state/home" TMPDIR="$state/case" chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
		--disable-background-networking --disable-component-update --disable-breakpad --no-first-run --password-store=basic \
		--hide-scrollbars --window-size=800,600 --user-data-dir="$state/case/profile-$1" "${@:3}" \
		--screenshot="$state/case/$1.png" "$2/files/page/?$proxy_name-$1" >"$state/case/chromium-$1.err" 2>&1 ||
		fail "Chromium ended with $?"
	grep -q "^200 GET /gate/$proxy_name-$1 " "$state/log/origin" || fail "$1: the page did not work"
}

# chromium_client SCHEME OPTION: the page looks the same as when it is fetched straight
chromium_client() {
	screenshot "straight-$1" "${origin[$1]}" --no-proxy-server --host-resolver-rules='MAP origin.example 127.0.0.1'
	screenshot "through-$1" "${origin[$1]}" "$2"
	cmp "$state/case/straight-$1.png" "$state/case/through-$1.png" || fail 'the screenshots differ'
}

# with_account CASE ARGUMENT...: the client brings its own, in the proxy's URL
with_account() {
	proxy=http://alice:$alice_password@${proxy#http://}
	"$@"
}
