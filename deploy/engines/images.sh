#!/bin/bash
# Stand-ins for the images that our own are made of, from Debian 12's packages: for `make engines ENGINES=compose` on a
# machine that reaches Debian's mirrors, but no registry of images. They are for trying alone.
#   apt-get install debootstrap docker.io       # and the plugin `docker compose`; as root, with the daemon running
#   deploy/engines/images.sh
# Makes python:3.11-slim, with Debian's Python 3.11, and postgres:17, with Debian's PostgreSQL 15.
set -euo pipefail

folder=$(mktemp -d /var/tmp/images.XXXXXX)
trap 'rm -rf "$folder"' EXIT
python=$folder/python postgres=$folder/postgres
path=PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin

small() { # as official images are: apt leaves nothing behind
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale}/*
}

debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-pip,ca-certificates,netbase,tzdata \
  bookworm "$python"
printf '%s\n' 'APT::Update::Post-Invoke { "rm -f /var/cache/apt/*.bin || true"; };' \
  'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >"$python/etc/apt/apt.conf.d/docker-clean"
cp /etc/ssl/certs/ca-certificates.crt "$python/etc/ssl/certs/" # this machine's, if its mirrors have an authority of their own
for name in python python3; do ln -s /usr/bin/python3.11 "$python/usr/local/bin/$name"; done
ln -s /usr/bin/pip3 "$python/usr/local/bin/pip"
rm -f "$python/usr/lib/python3.11/EXTERNALLY-MANAGED"

cp -a "$python" "$postgres"
cp /etc/resolv.conf "$postgres/etc/"
chroot "$postgres" apt-get update -qq
DEBIAN_FRONTEND=noninteractive chroot "$postgres" apt-get install -qq --yes --no-install-recommends postgresql-15
rm -r "$postgres"/var/lib/postgresql/15
ln -s /usr/lib/postgresql/15/bin/* "$postgres/usr/local/bin/" 2>/dev/null || true
cat >"$postgres/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/bin/bash
# What compose files ask of the official one: a user, a database and a password, made at the first start.
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username "$POSTGRES_USER" --pwfile <(printf %s "$POSTGRES_PASSWORD") --auth-host scram-sha-256 --auth-local trust
  pg_ctl -w -o "-c listen_addresses=''" start # nobody is served before the database is there
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -m fast -w stop
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*'
END
chmod +x "$postgres/usr/local/bin/docker-entrypoint.sh"

small "$python"
small "$postgres"
tar -C "$python" -c . | docker import -c "ENV $path" -c 'CMD ["python"]' - python:3.11-slim
# Under the locale C the database would have no encoding.
tar -C "$postgres" -c . | docker import -c "ENV $path" -c "ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data" \
  -c 'VOLUME /var/lib/postgresql/data' -c 'ENTRYPOINT ["docker-entrypoint.sh"]' -c 'CMD ["postgres"]' - postgres:17
