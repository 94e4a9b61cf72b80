#!/usr/bin/env bash
# One database per service with two roles: SERVICE_owner migrates it, SERVICE_service reads and writes rows.
# Run once by the postgres image on an empty volume. Passwords: SESSION_OWNER_PASSWORD, SESSION_SERVICE_PASSWORD, ...
set -euo pipefail

for database in session subscription progress; do
  owner_password="${database^^}_OWNER_PASSWORD"
  service_password="${database^^}_SERVICE_PASSWORD"
  OWNER_PASSWORD="${!owner_password:?}" SERVICE_PASSWORD="${!service_password:?}" \
    psql --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres \
      --set ON_ERROR_STOP=1 \
      --set database="$database" --set owner="${database}_owner" --set service="${database}_service" <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv service_password SERVICE_PASSWORD
CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
CREATE ROLE :"service" LOGIN PASSWORD :'service_password';
CREATE DATABASE :"database" OWNER :"owner";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
-- Every statement is a few index probes: plans must say so also before the first ANALYZE, and need no compiler.
ALTER DATABASE :"database" SET random_page_cost = 1.1;
ALTER DATABASE :"database" SET jit = off;
GRANT CONNECT ON DATABASE :"database" TO :"service";
\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"service";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"service";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO :"service";
SQL
done
