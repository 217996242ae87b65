#!/bin/sh
# Installs what the interop tests need: Mosquitto's broker and tools (Debian or Ubuntu), the npm client, the Go modules.
# It may be run again at any time, asks nothing, and leaves no broker running.
set -eu
cd "$(dirname "$0")"

root=
[ "$(id -u)" -eq 0 ] || root="sudo -n"

missing=
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v mosquitto_rr >/dev/null || missing="$missing mosquitto-clients"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || {
		echo "deps.sh: these programs are missing and there is no apt-get to install them:$missing" >&2
		exit 1
	}
	# RUNLEVEL=1 keeps the package's script from starting the service where there is no systemd.
	$root env DEBIAN_FRONTEND=noninteractive apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	$root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $missing
	case $missing in
	*" mosquitto"*)
		if [ -d /run/systemd/system ]; then
			$root systemctl disable --now mosquitto.service
		elif [ -x /etc/init.d/mosquitto ]; then
			$root /etc/init.d/mosquitto stop >/dev/null 2>&1 || true
		fi
		;;
	esac
fi

# npm ci starts from nothing each time; it is not needed if what is there fits the lock file.
if ! cmp -s js/package-lock.json js/node_modules/.interop-lock; then
	(cd js && npm ci --no-audit --no-fund --loglevel=error)
	cp js/package-lock.json js/node_modules/.interop-lock
fi

go mod download
