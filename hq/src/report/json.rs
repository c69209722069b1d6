//! The report as JSON, by the schema `docs/schemas/reconcile-1.json`.

use mintmark_console::time::rfc3339;
use serde_json::{Value, json};

use super::books::Balance;
use super::{Line, Report, named_moves};
use crate::findings::Finding;

impl Report {
    /// The whole of it.
    pub(crate) fn to_json(&self) -> Value {
        let period = self.query.period;
        json!({
            "schema": "mintmark/reconcile/1",
            "hq_name": self.hq_name,
            "query": {
                "site": self.query.site.as_ref().map(ToString::to_string),
                "product": self.query.product.as_ref().map(ToString::to_string),
                "entitlement": self.query.entitlement.as_ref().map(ToString::to_string),
                "silent_days": self.query.silent_days,
            },
            "as_of": self.as_of.map(rfc3339),
            "period": {
                "since": period.since.map(|day| day.to_string()),
                "as_of": period.as_of.map(|day| day.to_string()),
            },
            "balanced": self.balanced(),
            "total": self.total().to_json(),
            "sites": self.sums("site", |line| line.account.vault.site.to_string()),
            "products": self.sums("product", |line| line.account.sku.to_string()),
            "entitlements": self.sums("entitlement", |line| line.account.entitlement.to_string()),
            "accounts": self.lines.iter().map(Line::to_json).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "days": self.days_json(),
            "refusals": self.refusals_json(),
            "unreported": self.unreported.iter().map(|(day, units)| json!({
                "day": day.to_string(),
                "units": units,
            })).collect::<Vec<_>>(),
        })
    }

    fn sums(&self, name: &str, key: impl Fn(&Line) -> String) -> Vec<Value> {
        let sum = |(key, balance): (String, Balance)| {
            let mut row = balance.to_json();
            row.insert(name.to_owned(), key.into());
            Value::Object(row)
        };
        self.totals(key).into_iter().map(sum).collect()
    }

    fn days_json(&self) -> Vec<Value> {
        let days = self.days.iter().filter_map(|day| {
            let line = self.lines.get(day.line)?;
            let mut row = line.names();
            row["day"] = day.day.to_string().into();
            for (name, units) in named_moves(&day.moves) {
                row[name] = units.into();
            }
            Some(row)
        });
        days.collect()
    }

    fn refusals_json(&self) -> Vec<Value> {
        let refusals = self.refusals.iter().map(|(rule, requests)| {
            json!({
                "site": rule.vault.site.as_str(),
                "vault": rule.vault.vault.as_str(),
                "product": rule.product.as_str(),
                "rule": rule.code,
                "requests": requests,
            })
        });
        refusals.collect()
    }
}

impl Line {
    fn names(&self) -> Value {
        json!({
            "site": self.account.vault.site.as_str(),
            "vault": self.account.vault.vault.as_str(),
            "product": self.account.sku.as_str(),
            "entitlement": self.account.entitlement.as_str(),
        })
    }

    fn to_json(&self) -> Value {
        let mut row = self.names();
        for (name, count) in self.books.closing.counts() {
            row[name] = count.into();
        }
        row["balanced"] = self.books.balance().into();
        row["faults"] = json!(self.books.faults);
        row["opening"] = self.books.opening.to_json().into();
        row["moves"] = self.books.moves.to_json();
        row["units_per_day_max"] = self.per_day.into();
        // Of a vault that was replaced; any other's accounts are as the vault itself states them.
        if self.was_written_off() {
            row["written_off"] = self.books.closing.written_off.into();
            row["used_after_all"] = self.account.used_after_all.into();
        }
        if self.is_revoked() {
            row["revoked"] = true.into();
        }
        row
    }
}
