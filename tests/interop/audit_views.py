"""The views of a registry, read only, held against `hq reconcile --json` and against docs/registry.md.

    audit_views.py REGISTRY REPORT DOCUMENT
"""

import json
import re
import sqlite3
import sys

registry, report, document = sys.argv[1:]
report = json.load(open(report, encoding="utf-8"))
document = open(document, encoding="utf-8").read()
sql = sqlite3.connect(f"file:{registry}?mode=ro", uri=True)
sql.row_factory = sqlite3.Row


def rows(query):
    return [dict(row) for row in sql.execute(query)]


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: found {found}, expected {expected}")


def only(row, names):
    return {name: row[name] for name in names}


NAMES = ["site", "vault", "product", "entitlement"]
COUNTS = ["authorised", "good", "scrapped", "voided", "unresolved", "unspent"]
MOVED = ["newly_reserved", "newly_burned", "newly_good", "newly_scrapped", "newly_voided"]

accounts = rows("SELECT * FROM audit_accounts ORDER BY site, vault, tag")
expect([only(row, NAMES + COUNTS) for row in accounts], [only(row, NAMES + COUNTS) for row in report["accounts"]], "accounts")

# Double entry: each bucket but the unspent ones comes to the counter.
for account in accounts:
    place = (account["site"], account["vault"], account["tag"])
    sums = {}
    for credit, debit, units in sql.execute(
        "SELECT credit, debit, units FROM audit_postings WHERE site = ? AND vault = ? AND tag = ?", place
    ):
        sums[credit] = sums.get(credit, 0) + units
        sums[debit] = sums.get(debit, 0) - units
    for bucket in ["good", "scrapped", "voided", "burned"]:
        expect(sums.get(bucket, 0), account[bucket], bucket)
    spent = sum(account[name] for name in ["good", "scrapped", "voided", "unresolved"]) - account["written_off"]
    expect(-sums.get("unspent", 0), spent, "spent")

days = rows("SELECT *, date(day * 86400, 'unixepoch') AS written FROM audit_days ORDER BY site, vault, day")
expect(
    [only(row, NAMES + MOVED) | {"day": row["written"]} for row in days],
    [only(row, NAMES + MOVED) | {"day": row["day"]} for row in report["days"]],
    "days",
)
refusals = rows(
    "SELECT site, vault, product, rule, SUM(requests) AS requests FROM audit_refusals GROUP BY site, vault, product, rule"
)
expect(refusals, report["refusals"], "refusals")
expect(rows("SELECT code FROM audit_findings"), [], "findings")
expect(rows("SELECT COUNT(*) AS units FROM audit_units WHERE signed IS NOT NULL"), [{"units": sum(
    row["good"] + row["scrapped"] + row["voided"] for row in accounts
)}], "units")
expect([row["action"] for row in rows("SELECT * FROM audit_orders ORDER BY record")], ["scrap", "void"], "orders")
expect([row["version"] for row in rows("SELECT * FROM audit_entitlements WHERE sent_at IS NOT NULL")], [1], "entitlements")
expect(len(rows("SELECT * FROM audit_vaults WHERE state = 'granted'")), 1, "vaults")
expect(len(rows("SELECT * FROM audit_bundles")), 1, "bundles")

# Every view has its section, which names each of its columns and no other.
sections = {}
for section in re.split(r"^## ", document, flags=re.M)[1:]:
    title = re.match(r"`(audit_[a-z]+)`", section)
    if title:
        sections[title[1]] = section
views = [row["name"] for row in rows("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")]
expect(sorted(sections), views, "views in the document")
for view in views:
    columns = {row["name"] for row in rows(f"PRAGMA table_info({view})")}
    missing = {column for column in columns if f"`{column}`" not in sections[view]}
    expect(missing, set(), f"columns of {view} that the document does not name")

# The examples run.
for example in re.findall(r"```sql\n(.*?)```", document, flags=re.S):
    found = rows(example)
    if "audit_postings" in example:
        expect(found, [], "accounts that differ")

# And nothing can be written.
try:
    sql.execute("DELETE FROM findings")
    sys.exit("a reader could write")
except sqlite3.OperationalError:
    pass
