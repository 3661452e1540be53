#!/bin/sh
# Makes what deploy/compose.yaml and deploy/kubernetes/ want as secrets: `sh deploy/make_secrets.sh DIRECTORY`. What is there
# stays. The directory is for its owner alone; the files in it are readable, since containers read them as other users.
set -eu
directory=${1:?name a directory}
umask 077
mkdir -p "$directory"
cd "$directory"

keep() { # NAME, with the value on standard input
    if [ -e "$1" ]; then cat > /dev/null; else cat > "$1.draft"; chmod 444 "$1.draft"; mv "$1.draft" "$1"; fi
}
draw() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

for name in postgres_password redis_password s3_password label_studio_password grafana_password argilla_password; do
    draw 24 | keep "$name"
done
draw 20 | keep ERRATA_LABEL_STUDIO_TOKEN # Label Studio's own tokens are this long
draw 32 | keep ERRATA_ARGILLA_API_KEY
printf errata | keep s3_user
printf 'postgresql+psycopg://errata:%s@postgres/errata' "$(cat postgres_password)" | keep ERRATA_DATABASE_URL
printf 'redis://:%s@redis:6379/0' "$(cat redis_password)" | keep ERRATA_REDIS_URL
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(cat s3_user)" "$(cat s3_password)" | keep aws
printf '{"key_id": "%s", "signing_key": "%s", "session_key": "%s", "hook_secret": "%s"}' \
    "$(draw 4)" "$(draw 32)" "$(draw 32)" "$(draw 24)" | keep secrets.json
