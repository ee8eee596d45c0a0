#!/bin/bash
# Try the package in a bare Debian, as a newcomer would: install it by README.md's own commands, see a row arrive,
# upgrade, remove, purge. Needs root, debootstrap and a network; changes nothing but a directory that it removes.
#
#     make deb && sudo packaging/try.sh [SUITE]        # bookworm unless it is said; KEEP=1 leaves the directory
#
# BASE=DIRECTORY keeps the bare system with the servers there, and begins with it the next time.
#
# Without a systemd that runs, `systemctl enable` makes its links, and what the units start is started here by hand.
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
    echo "127.0.0.1 localhost $(hostname)" >"$root/etc/hosts"
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
cp "$deb" "$root/root/$(basename "$deb")"
cp packaging/endpoint.py "$root/root/"
commands >"$root/root/readme.sh"
grep -q 'apt install' "$root/root/readme.sh" || fail "README.md's Install has no commands"

say "README.md: $(sed -n 1p "$root/root/readme.sh")"
started=$SECONDS
(cd / && inside sh -c "cd /root && $(sed -n 's/^sudo apt install/apt-get -qq -y install/p' "$root/root/readme.sh")") >>"$root/apt.log" 2>&1 \
    || { tail "$root/apt.log"; fail "apt install"; }
is "user" "$(inside id -gn relay)" relay
is "directory of the settings" "$(inside stat -c '%a %U:%G' /etc/relay)" "2750 root:relay"
version=$(inside dpkg-query -Wf '${Version}' relay)
is "relay-listen --version" "$(inside relay-listen --version)" "relay $version"
is "sums of the files" "$(inside dpkg --verify relay)" ""
is "byte code" "$(inside find /usr/lib/relay -name '*.pyc' | wc -l)" "$(inside find /usr/lib/relay -name '*.py' | wc -l)"
inside sh -c 'relay-receiver parked 2>&1 || true' | grep -q "there is no /etc/relay/NAME.env yet" || fail "a receiver without a name"

# Everything else in a network and with processes of its own, which end with it.
cat >"$root/root/newcomer.sh" <<'END'
set -euo pipefail
cd /root
mount -t proc proc /proc
pg_ctlcluster "$(ls /etc/postgresql)" main start
rabbitmq-server -detached >/dev/null 2>&1
for _ in $(seq 30); do rabbitmqctl -q await_startup >/dev/null 2>&1 && break; sleep 1; done
sudo -u postgres psql -qc 'create database erp'
sudo -u postgres psql -qd erp -c 'create table orders (id int primary key, total numeric)'
python3 endpoint.py >arrived.json &
sed -i '/^sudo apt install/d' readme.sh
# What systemctl would start.
started() {
    for unit; do
        file=/usr/lib/systemd/system/$(sed 's/@.*/@/' <<<"$unit").service
        line=$(sed -n "s/^ExecStart=//p" "$file" | sed "s/%i/${unit#*@}/")
        runuser -u relay -- $line 2>"$unit.log" &
    done
}
sed -i 's/^sudo systemctl enable --now \(.*\)/sudo systemctl enable \1 \&\& started \1/' readme.sh
. ./readme.sh
for _ in $(seq 300); do grep -q '"table": *"public.orders"' arrived.json && break; sleep 0.1; done
cat arrived.json
grep -q '"table": *"public.orders"' arrived.json || { cat ./*.log; exit 1; }
sudo relay-listen status
sudo relay-receiver odoo status
sudo relay-receiver odoo parked
! sudo relay-receiver parked 2>said || exit 1
grep -q 'there are: odoo$' said
! runuser -u postgres -- relay-receiver odoo parked 2>said || exit 1
grep -q 'root and group relay: try sudo' said
[ "$(stat -c '%a %U:%G' /etc/relay/odoo.env)" = '640 root:relay' ]
[ -L /etc/systemd/system/multi-user.target.wants/relay-receiver@odoo.service ]
END
unshare --net --pid --mount --fork --kill-child sh -c 'ip link set lo up && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 bash /root/newcomer.sh' "$root" \
    || fail "README.md's commands"
say "ok a row of one's own at an endpoint of one's own, $(grep -c '^sudo' "$root/root/readme.sh") more commands, $((SECONDS - started)) s"

say "upgrade"
mkdir "$root/next"
dpkg-deb -R "$deb" "$root/next/relay"
sed -i "s/^Version: .*/Version: $version+next/" "$root/next/relay/DEBIAN/control"
echo "# mine" >>"$root/etc/logrotate.d/relay"
dpkg-deb --root-owner-group -b "$root/next/relay" "$root/root/next.deb" >/dev/null
settings=$(md5sum <"$root/etc/relay/odoo.env")
apt install /root/next.deb
is "upgraded" "$(inside dpkg-query -Wf '${Status} ${Version}' relay)" "install ok installed $version+next"
is "the settings stay" "$(md5sum <"$root/etc/relay/odoo.env")" "$settings"
is "a changed file of /etc stays" "$(tail -1 "$root/etc/logrotate.d/relay")" "# mine"

say "remove"
apt remove relay
is "what remains of it" "$(inside find /usr/lib/relay /usr/share/relay /usr/bin/relay-listen 2>/dev/null)" ""
is "the settings stay" "$(md5sum <"$root/etc/relay/odoo.env")" "$settings"

say "purge"
apt purge relay
is "what remains of it" "$(inside find / -xdev \( -path '*relay*' -a -not -path '/root/*' -a -not -path '/next/*' -a -not -path '/var/lib/*' -a -not -path '/proc/*' \) 2>/dev/null)" ""
say "ok"
