#!/bin/bash
# Try the package in a bare Debian, as a newcomer would: install it by README.md's own commands, see a row arrive,
# upgrade, remove, purge. Needs root, debootstrap, systemd-container and a network; changes nothing but a directory that
# it removes.
#
#     make deb && sudo packaging/try.sh [SUITE]        # bookworm unless it is said; KEEP=1 leaves the directory
#
# BASE=DIRECTORY keeps the bare system with the servers there, and begins with it the next time.
#
# `apt install` runs in a chroot, as it must reach Debian's packages; all else in that system booted, by systemd-nspawn,
# with no network but its loopback.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-bookworm}
deb=$(ls dist/relay_*_all.deb | tail -1)
root=$(mktemp -d "${TMPDIR:-/var/tmp}/relay-try.XXXXXX")
chmod 755 "$root"  # its user relay must get in
trap '[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$root"' EXIT

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
apt() { inside apt-get -qq -y -o Dpkg::Use-Pty=0 "$@" >>"$root/apt.log" 2>&1 || { tail "$root/apt.log"; fail "apt-get $*"; }; }
is() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; say "ok $1"; }
# The commands of README.md's section "Install", up to its first subsection.
commands() { sed -n '/^## Install/,/^### /p' README.md | sed -n '/^```sh/,/^```$/p' | sed '/^```/d'; }

prepare() {
    say "a bare $suite"
    debootstrap --variant=minbase "$suite" "$root" "${MIRROR:-http://deb.debian.org/debian}" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
    rm "$root.log"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"  # nothing is started by being installed
    chmod +x "$root/usr/sbin/policy-rc.d"
    echo newcomer >"$root/etc/hostname"
    echo "127.0.0.1 localhost newcomer" >"$root/etc/hosts"
    apt update
    say "what a newcomer has: PostgreSQL, RabbitMQ, sudo, a database with a table"
    apt install --no-install-recommends postgresql rabbitmq-server sudo systemd
}
if [ -n "${BASE:-}" ] && [ -d "$BASE" ]; then
    cp -a "$BASE/." "$root"
else
    prepare
    [ -z "${BASE:-}" ] || cp -a "$root" "$BASE"
fi
home=/home/newcomer
inside useradd --create-home --shell /bin/bash newcomer
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/newcomer"
cp "$deb" "$root$home/"
cp packaging/endpoint.py "$root/root/"
commands >"$root$home/readme.sh"
grep -q 'apt install' "$root$home/readme.sh" || fail "README.md's Install has no commands"
number=$(grep -cE '^sudo' "$root$home/readme.sh")

say "README.md: $(sed -n 1p "$root$home/readme.sh")"
started=$SECONDS
inside sh -c "cd $home && $(sed -n 's/^sudo apt install/apt-get -qq -y install/p' "$root$home/readme.sh")" >>"$root/apt.log" 2>&1 \
    || { tail "$root/apt.log"; fail "apt install"; }
installed=$((SECONDS - started))
sed -i '/^sudo apt install/d' "$root$home/readme.sh"
is "user" "$(inside id -gn relay)" relay
is "directory of the settings" "$(inside stat -c '%a %U:%G' /etc/relay)" "2750 root:relay"
version=$(inside dpkg-query -Wf '${Version}' relay)
is "relay-listen --version" "$(inside relay-listen --version)" "relay $version"
is "sums of the files" "$(inside dpkg --verify relay)" ""
inside sh -c 'relay-receiver parked 2>&1 || true' | grep -q "there is no /etc/relay/NAME.env yet" || fail "a receiver without a name"

# A next version: one file more, one less.
next=$version+next
dpkg-deb -R "$deb" "$root/next"
sed -i "s/$version/$next/" "$root/next/DEBIAN/control" "$root/next/DEBIAN/postinst"
mv "$root/next/usr/lib/relay/relay/publish.py" "$root/next/usr/lib/relay/relay/published.py"
sed -i 's|relay/publish.py$|relay/published.py|' "$root/next/DEBIAN/md5sums"
dpkg-deb --root-owner-group -b "$root/next" "$root/root/next.deb" >/dev/null
rm -r "$root/next"

cat >"$root/root/trial.sh" <<END
next=$next
END
cat >>"$root/root/trial.sh" <<'END'
set -euo pipefail
cd /root
say() { printf '%s %s\n' "$(date +%T)" "$*"; }
is() { [ "$2" = "$3" ] || { say "FAILED: $1: $2, not $3"; exit 1; }; say "ok $1"; }
trap 'status=$?; [ $status = 0 ] || { say "FAILED"; journalctl --no-pager -o cat -u "relay-*" | tail -50; exit $status; }' EXIT
postgres() { runuser -u postgres -- sh -c 'cd / && exec psql -q "$@"' psql "$@"; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@" </dev/null; }
has() { for _ in $(seq 300); do ! grep -q "$1" arrived.json || return 0; sleep 0.1; done; say "FAILED: $1 did not arrive"; exit 1; }
processes() { systemctl show --property MainPID --value relay-listen relay-receiver@odoo | xargs; }
byte_code() {
    is "byte code" "$(find /usr/lib/relay -name '*.pyc' | wc -l)" "$(find /usr/lib/relay -name '*.py' | wc -l)"
}
byte_code
postgres -c 'create database erp'
postgres -d erp -c 'create table orders (id int primary key, total numeric)'
python3 endpoint.py >arrived.json &
started=$SECONDS
sudo -u newcomer -- bash -c 'cd && set -eu && . ./readme.sh' </dev/null
has '"table":"public.orders".*"total":10.50'
say "ok a row of one's own at an endpoint of one's own"
echo $((SECONDS - started)) >seconds

sudo relay-listen status
sudo relay-receiver odoo status
sudo relay-receiver odoo parked
sudo relay-listen check
sudo relay-receiver odoo check
! sudo relay-receiver parked 2>said || exit 1
grep -q 'there are: odoo$' said
! runuser -u newcomer -- relay-receiver odoo parked 2>said || exit 1
grep -q 'root and group relay: try sudo' said
is "mode of the settings" "$(stat -c '%a %U:%G' /etc/relay/odoo.env)" "640 root:relay"

printf '#!/bin/sh\necho "told: $RELAY_CAUSE $RELAY_NAME"\n' >/etc/relay/alert
chmod 755 /etc/relay/alert
touch /etc/relay/broken.env
! systemctl start relay-listen@broken 2>said || exit 1
for _ in $(seq 100); do journalctl -u 'relay-alert@*' | grep -q 'told: failed relay-listen@broken.service' && break; sleep 0.1; done
is "a listener that can't start is told of" "$(journalctl -o cat -u 'relay-alert@*' | grep told:)" "told: failed relay-listen@broken.service"

is "no crash so far" "$(journalctl -u 'relay-crashed@*' | grep -c told: || true)" 0
for _ in 1 2 3; do
    before=$(processes)
    systemctl kill -s KILL relay-listen
    for _ in $(seq 200); do [ "$before" != "$(processes)" ] && systemctl -q is-active relay-listen && break; sleep 0.1; done
done
is "a listener that crashes thrice is told of once" "$(journalctl -o cat -u 'relay-crashed@*' | grep told:)" "told: crashed relay-listen.service"
systemctl stop 'relay-crashed@*'
rm /etc/relay/alert /etc/relay/broken.env

say "upgrade"
settings=$(md5sum /etc/relay/*.env)
echo "# mine" >>/etc/logrotate.d/relay
before=$(processes)
apt install ./next.deb
is "upgraded" "$(dpkg-query -Wf '${Status} ${Version}' relay)" "install ok installed $next"
is "the settings stay" "$(md5sum /etc/relay/*.env)" "$settings"
is "a changed file of /etc stays" "$(tail -1 /etc/logrotate.d/relay)" "# mine"
is "what runs is restarted" "$(systemctl is-active relay-listen relay-receiver@odoo | xargs)" "active active"
for one in $before; do ! kill -0 "$one" 2>/dev/null || { say "FAILED: $one still runs"; exit 1; }; done
is "a file that is gone" "$(find /usr/lib/relay -name 'publish.*')" ""
byte_code
postgres -d erp -c "insert into orders values (2, 20.50)"
has '"total":20.50'
say "ok a row after the upgrade"

say "remove"
apt remove relay
is "nothing runs" "$(systemctl is-active relay-listen relay-receiver@odoo | xargs)" "inactive inactive"
is "what remains of it" "$(find /usr/lib/relay /usr/share/relay /usr/bin/relay-* /usr/share/doc/relay 2>/dev/null)" ""
is "the settings stay" "$(md5sum /etc/relay/*.env)" "$settings"
postgres -d erp -c "insert into orders values (3, 30.50)"
say "ok the application still writes"

say "install again"
apt install ./next.deb
is "what was enabled is so again" "$(systemctl is-enabled relay-listen relay-receiver@odoo | xargs)" "enabled enabled"
systemctl start relay-listen relay-receiver@odoo
has '"total":30.50'
say "ok the row that was written meanwhile"

say "purge"
apt purge relay
is "nothing runs" "$(systemctl is-active relay-listen relay-receiver@odoo | xargs)" "inactive inactive"
is "what remains of it" "$(find / -xdev -path '*relay*' -not -path "/home/*" 2>/dev/null)" ""
is "the user remains, for files elsewhere" "$(id -gn relay)" relay
END
cat >"$root/etc/systemd/system/trial.service" <<'END'
[Unit]
Wants=postgresql.service rabbitmq-server.service
After=postgresql.service rabbitmq-server.service
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
StandardOutput=file:/root/trial.log
StandardError=inherit
ExecStart=/bin/bash /root/trial.sh
TimeoutStartSec=600
END
rm -f "$root/usr/sbin/policy-rc.d"
status=0
systemd-nspawn -q -D "$root" --hostname=newcomer --register=no --keep-unit --private-network --console=pipe --boot \
    systemd.unit=trial.service </dev/null >"$root/boot.log" 2>&1 || status=$?
cat "$root/root/trial.log"
[ "$status" = 0 ] || { tail "$root/boot.log"; fail "status $status"; }
say "ok: $number commands, $installed s for apt install, $(cat "$root/root/seconds") s for the others"
