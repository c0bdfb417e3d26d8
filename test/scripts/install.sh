#!/usr/bin/env bash
# Checks for what building or testing needs and installs what is missing, where
# this machine lets it (Debian or Ubuntu, as root); otherwise names it.
# Usage: install.sh toolchain | tests
set -euo pipefail

go_needed=1.26

need() { # COMMAND PACKAGE...: note the packages where the command is missing
	local command=$1
	shift
	command -v "$command" >/dev/null 2>&1 || missing+=("$@")
}

missing=()
case "${1:-}" in
toolchain)
	if ! command -v go >/dev/null 2>&1; then
		echo "Go $go_needed or newer is needed and there is none on the PATH: see https://go.dev/doc/install" >&2
		exit 1
	fi
	command -v "${CC:-cc}" >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 || missing+=(gcc g++ libc6-dev)
	;;
tests)
	need kcat kcat
	need psql postgresql-client
	need promtool prometheus
	need chromium chromium
	need node nodejs
	need npm npm
	# the clients of test/clients: confluent-kafka in a virtual environment, Kafka's own
	need mvn maven
	need javac default-jdk-headless
	need python3 python3
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
	;;
*)
	echo "usage: $0 toolchain | tests" >&2
	exit 2
	;;
esac

[ ${#missing[@]} -eq 0 ] && exit 0
echo "missing: ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "install them and run this again; on Debian: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Prometheus would start its server on being installed; only promtool is wanted.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.weir
chmod +x /usr/sbin/policy-rc.d.weir
if [ ! -e /usr/sbin/policy-rc.d ]; then
	mv /usr/sbin/policy-rc.d.weir /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
else
	rm -f /usr/sbin/policy-rc.d.weir
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
