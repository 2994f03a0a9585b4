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

make_repositories() {
	(set -e; make_git_repository; make_apt_repository; make_rpm_repository) >"$state/log/repositories" 2>&1
}
