//! Headquarters: key ceremony, entitlements, approvals, replay and reconciliation.
