#!/bin/sh
# Write the secrets that compose.yaml asks for, freshly made, into a file that only you can read:
#   deploy/make-env.sh [FILE]     FILE is .env beside compose.yaml unless named; an existing one stays as it is
set -eu

file=${1:-$(dirname "$0")/../.env}
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }  # hexadecimal: needs no escaping in a URL

umask 077
set -C  # refuse to overwrite: the passwords of a database are set once, when it is created
if ! cat > "$file" <<EOF
POSTGRES_PASSWORD=$(secret)
SESSION_OWNER_PASSWORD=$(secret)
SESSION_SERVICE_PASSWORD=$(secret)
SUBSCRIPTION_OWNER_PASSWORD=$(secret)
SUBSCRIPTION_SERVICE_PASSWORD=$(secret)
PROGRESS_OWNER_PASSWORD=$(secret)
PROGRESS_SERVICE_PASSWORD=$(secret)
HOMEROOM_SERVICE_TOKEN=$(secret)

# Whose tokens to accept: an https URL, or a file below deploy/keys as /etc/homeroom/FILE.
HOMEROOM_JWKS=
HOMEROOM_JWT_ISSUER=
HOMEROOM_JWT_AUDIENCE=homeroom
EOF
then
  echo "$file was not written: remove it first if you want new secrets" >&2
  exit 1
fi
echo "wrote $file: now name the issuer of your tokens in it"
