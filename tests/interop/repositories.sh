# shellcheck shell=bash disable=SC2154
# What the origin serves to clients that want more than bytes. Sourced by run.

# A git that knows neither this machine's configuration nor its user's
our_git() {
	timeout 60 env HOME="$state/home" GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 git \
		-c user.name=interop -c user.email=interop@example.com -c http.sslCAInfo="$ca" -c http.lowSpeedTime=30 \
		-c http.lowSpeedLimit=1 "$@"
}

make_git_repository() {
	our_git init -q -b main "$state/home/seed"
	head -c 3000000 /dev/urandom >"$state/home/seed/noise" # incompressible, so that the pack is large
	our_git -C "$state/home/seed" add noise
	our_git -C "$state/home/seed" commit -q -m seed
	our_git clone -q --bare "$state/home/seed" "$state/git/demo.git"
	our_git -C "$state/git/demo.git" config http.receivepack true
}

debs=(interop-{1..12}) # enough for apt to send its requests pipelined

make_apt_repository() {
	local name dir
	mkdir -p "$state/www/apt"
	for name in "${debs[@]}"; do
		dir=$state/home/deb/$name
		mkdir -p "$dir/DEBIAN" "$dir/usr/share/$name"
		head -c 50000 /dev/urandom >"$dir/usr/share/$name/noise"
		printf '%s\n' "Package: $name" 'Version: 1' 'Architecture: all' \
			'Maintainer: interop <interop@example.com>' "Description: test" >"$dir/DEBIAN/control"
		dpkg-deb -Znone -b "$dir" "$state/www/apt/${name}_1_all.deb"
	done >/dev/null
	cd "$state/www/apt"
	apt-ftparchive packages . >Packages
	apt-ftparchive release . >"$state/home/Release"
	mv "$state/home/Release" .
}

make_rpm_repository() {
	cat >"$state/home/demo.spec" <<-X
		Name: interop
		Version: 1
		Release: 1
		Summary: test
		License: none
		BuildArch: noarch
		AutoReqProv: no
		%description
		test
		%install
		mkdir -p %{buildroot}/opt
		head -c 200000 /dev/urandom >%{buildroot}/opt/interop
		%files
		/opt/interop
	X
	rpmbuild -bb --quiet --define "_topdir $state/home/rpm" "$state/home/demo.spec"
	mkdir -p "$state/www/rpm"
	mv "$state"/home/rpm/RPMS/noarch/interop-1-1.noarch.rpm "$state/www/rpm/"
	createrepo_c -q "$state/www/rpm"
}

# What npm, pip and cargo fetch is an archive with a name of their own and an index that leads there.
# Indexes hold whole addresses, so there is one for http and one for https.

make_npm_registry() {
	local www=$state/www/npm dir=$state/home/npm scheme
	mkdir -p "$dir/package" "$www"/{http,https}
	echo '{"name": "interop", "version": "1.0.0", "main": "noise"}' >"$dir/package/package.json"
	head -c 300000 /dev/urandom >"$dir/package/noise"
	tar -czf "$www/interop-1.0.0.tgz" -C "$dir" package
	for scheme in http https; do
		cat >"$www/$scheme/interop" <<-X
			{"name": "interop", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0":
			{"name": "interop", "version": "1.0.0", "dist":
			{"tarball": "${origin[$scheme]}/files/npm/interop-1.0.0.tgz", "integrity":
			"sha512-$(openssl dgst -sha512 -binary "$www/interop-1.0.0.tgz" | base64 -w 0)"}}}}
		X
	done
}

make_pip_index() {
	local www=$state/www/pip dir=$state/home/pip wheel=interop-1.0-py3-none-any.whl
	mkdir -p "$dir"/{interop,interop-1.0.dist-info} "$www/simple/interop"
	head -c 300000 /dev/urandom >"$dir/interop/noise"
	cd "$dir/interop-1.0.dist-info"
	printf '%s\n' 'Metadata-Version: 2.1' 'Name: interop' 'Version: 1.0' >METADATA
	printf '%s\n' 'Wheel-Version: 1.0' 'Generator: interop' 'Root-Is-Purelib: true' 'Tag: py3-none-any' >WHEEL
	printf '%s,,\n' interop/noise interop-1.0.dist-info/{METADATA,WHEEL,RECORD} >RECORD
	cd ..
	/usr/bin/python3 -m zipfile -c "$www/$wheel" interop interop-1.0.dist-info
	echo "<!DOCTYPE html><a href='../../$wheel#sha256=$(sha256sum "$www/$wheel" | cut -d' ' -f1)'>$wheel</a>" \
		>"$www/simple/interop/index.html"
}

make_cargo_registry() {
	local www=$state/www/cargo dir=$state/home/cargo scheme hash
	mkdir -p "$dir/interop-1.0.0/src" "$www"/{http,https}/in/te
	printf '%s\n' '[package]' 'name = "interop"' 'version = "1.0.0"' >"$dir/interop-1.0.0/Cargo.toml"
	touch "$dir/interop-1.0.0/src/lib.rs"
	head -c 300000 /dev/urandom >"$dir/interop-1.0.0/noise"
	tar -czf "$www/interop-1.0.0.crate" -C "$dir" interop-1.0.0
	hash=$(sha256sum "$www/interop-1.0.0.crate" | cut -d' ' -f1)
	for scheme in http https; do
		echo "{\"dl\": \"${origin[$scheme]}/files/cargo/{crate}-{version}.crate\"}" >"$www/$scheme/config.json"
		echo "{\"name\": \"interop\", \"vers\": \"1.0.0\", \"deps\": [], \"features\": {}, \"yanked\": false, \"cksum\": \"$hash\"}" \
			>"$www/$scheme/in/te/interop"
	done
}

# make_page: a page that is not loaded before all of it works. Its last picture is behind a gate (see
# origin.py), which holds the load event, and so the screenshot.
make_page() {
	local www=$state/www/page number
	mkdir -p "$www"
	for number in gate {1..24}; do # 40 by 40, of noise
		printf 'BM\xf6\x12\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x28\0\0\0\x28\0\0\0\x01\0\x18\0\0\0\0\0\xc0\x12\0\0'
		head -c 16 /dev/zero
		head -c 4800 /dev/urandom
	done | split -b 4854 -d -a 2 - "$www/picture-"
	cp "$www/picture-00" "$www/gate.bmp"
	for number in {01..24}; do mv "$www/picture-$number" "$www/$number.bmp"; done
	echo 'body { background: rgb(250, 240, 200); } #said { color: rgb(10, 20, 130); }' >"$www/style.css"
	echo '<!DOCTYPE html><body>A page in the page: <img src=01.bmp>' >"$www/inner.html"
	{
		echo '<!DOCTYPE html><title>interop</title><link rel=stylesheet href=style.css><script src=script.js></script>'
		echo '<body><pre id=said>nothing yet</pre><iframe src=inner.html></iframe><br>'
		printf '<img src=%s.bmp>\n' {01..24}
	} >"$www/index.html"
	cat >"$www/script.js" <<-'X'
		addEventListener('DOMContentLoaded', () => {
			const name = location.search.slice(1), said = document.getElementById('said');
			const pictures = [...document.images].map(picture => picture.decode());
			document.body.append(Object.assign(new Image(), {src: '/gate/' + name}));
			const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
			socket.onopen = async () => {
				await Promise.all(pictures);
				const body = await (await fetch('/bytes/100000')).arrayBuffer();
				socket.send(await (await fetch('/echo', {method: 'POST', body})).text());
			};
			socket.onmessage = ({data}) => {
				said.textContent = data + getComputedStyle(said).color;
				fetch('/open/' + name);
			};
		});
	X
}

make_repositories() {
	(
		set -e
		make_git_repository
		make_apt_repository
		make_rpm_repository
		make_npm_registry
		make_pip_index
		make_cargo_registry
		make_page
	) >"$state/log/repositories" 2>&1
}
