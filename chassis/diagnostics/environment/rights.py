"""The rights of a service's role: it reads and writes rows, and cannot change the schema."""

from __future__ import annotations

from chassis.diagnostics.environment.checking import Probe, Seen
from chassis.diagnostics.findings import Severity

_ROLE = """
    SELECT current_user AS name, current_schema() AS schema,
        rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
        has_database_privilege(current_database(), 'CREATE') AS create_in_database,
        has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS create_in_schema
    FROM pg_roles WHERE rolname = current_user
"""
_TABLES = """
    SELECT relname,
        pg_has_role(current_user, relowner, 'MEMBER') AS owns,
        ARRAY(SELECT right_ FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_
              WHERE NOT has_table_privilege(pg_class.oid, right_)) AS missing,
        ARRAY(SELECT right_ FROM unnest(ARRAY['TRUNCATE', 'TRIGGER', 'REFERENCES']) AS right_
              WHERE has_table_privilege(pg_class.oid, right_)) AS excess
    FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
    ORDER BY relname
"""
_SEQUENCES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace
        AND CASE WHEN relkind = 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') ELSE false END
    ORDER BY relname
"""
# Each statement that writes to a table runs the functions of its CHECKs.
_FUNCTIONS = """
    SELECT DISTINCT fun.proname
    FROM pg_depend AS dep JOIN pg_proc AS fun ON fun.oid = dep.refobjid
    WHERE dep.classid = 'pg_constraint'::regclass AND dep.refclassid = 'pg_proc'::regclass
        AND fun.pronamespace = current_schema()::regnamespace
        AND NOT has_function_privilege(fun.oid, 'EXECUTE')
    ORDER BY fun.proname
"""
_TOO_MUCH = (
    ("rolsuper", Severity.HIGH, "is a superuser"),
    ("rolcreaterole", Severity.HIGH, "may create roles"),
    ("rolcreatedb", Severity.MEDIUM, "may create databases"),
    ("rolreplication", Severity.MEDIUM, "may replicate the server"),
    ("rolbypassrls", Severity.MEDIUM, "bypasses row security"),
    ("create_in_database", Severity.MEDIUM, "may create schemas in the database"),
    ("create_in_schema", Severity.HIGH, "may create objects in the schema"),
    ("temporary", Severity.LOW, "may create temporary tables"),
)


async def look_rights(probe: Probe) -> list[Seen]:
    role = await probe.row(_ROLE)
    name = role["name"]
    if role["schema"] is None:
        return [
            Seen(Severity.CRITICAL, f"{name} may not use the schema of the tables", "USAGE on schema public")
        ]
    expected = "a role that reads and writes rows, and nothing else"
    found = [Seen(severity, f"{name} {what}", expected) for right, severity, what in _TOO_MUCH if role[right]]
    if role["rolsuper"]:
        return found[:1]  # all other rights follow from it
    for table in await probe.rows(_TABLES):
        row = {"table": table["relname"]}
        if table["missing"]:
            observed = f"{name} lacks {', '.join(table['missing'])} on {table['relname']}"
            found.append(Seen(Severity.CRITICAL, observed, "SELECT, INSERT, UPDATE, DELETE", row))
        if table["owns"]:
            observed = f"{name} owns {table['relname']}, so it can change or drop it"
            found.append(Seen(Severity.HIGH, observed, "the table belongs to the role that migrates", row))
        elif table["excess"]:
            observed = f"{name} has {', '.join(table['excess'])} on {table['relname']}"
            found.append(Seen(Severity.MEDIUM, observed, expected, row))
    found += [
        Seen(
            Severity.CRITICAL,
            f"{name} lacks USAGE on the sequence {sequence['relname']}",
            "USAGE",
            {"sequence": sequence["relname"]},
        )
        for sequence in await probe.rows(_SEQUENCES)
    ]
    found += [
        Seen(
            Severity.CRITICAL,
            f"{name} lacks EXECUTE on the function {function['proname']}",
            "EXECUTE",
            {"function": function["proname"]},
        )
        for function in await probe.rows(_FUNCTIONS)
    ]
    return found
