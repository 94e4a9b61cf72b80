#!/bin/sh
# Print the secrets that compose.yaml asks for, freshly made:  deploy/make-env.sh > .env
set -eu

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }  # hexadecimal: it stands in URLs as it is

cat <<EOF
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
