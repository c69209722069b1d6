//! What somebody at the vault says of a device, and what the log holds of it.

use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::DeviceOrder;
use mintmark_ledger::ledger::{DeviceHistory, Outcome};
use mintmark_ledger::refusal::Refusal;
use mintmark_protocol::identifier::{DeviceId, Sku};

use super::Vault;
use crate::commands::now;
use crate::failure::{Error, Result};

impl Vault<'_> {
    /// Everything that was ever reserved for a device, of one product or of all, oldest first within each.
    pub(crate) fn device_history(
        &self,
        product: Option<&Sku>,
        device_id: &DeviceId,
    ) -> Result<Vec<DeviceHistory>> {
        Ok(self.ledger.device(product, device_id)?)
    }

    /// Decides on a device order, and puts it on record. Nothing that was interrupted is completed first: a unit that came to
    /// nothing would have its certificate then.
    pub(crate) fn order(&mut self, order: &DeviceOrder) -> Result<Option<Refusal>> {
        self.begin()?;
        let refusal = self.stage_order(order)?;
        self.ledger.commit()?;
        Ok(refusal)
    }

    /// What would be decided. Nothing becomes durable; the vault must not be used for anything else afterwards.
    pub(crate) fn rehearse_order(&mut self, order: &DeviceOrder) -> Result<Option<Refusal>> {
        self.stage_order(order)
    }

    /// Makes durable what was decided on orders.
    pub(crate) fn commit_orders(&mut self) -> Result<()> {
        Ok(self.ledger.commit()?)
    }

    /// Decides on an order, which is durable with the next group.
    pub(crate) fn stage_order(&mut self, order: &DeviceOrder) -> Result<Option<Refusal>> {
        match self.ledger.submit(None, now(), Input::Device(order))? {
            Outcome::DeviceChanged(_) => Ok(None),
            Outcome::Refused(refusal) => Ok(Some(refusal)),
            Outcome::Reserved(_) | Outcome::Existing { .. } | Outcome::Accepted => {
                Err(Error::unknown(
                    "INTERNAL",
                    "a device order was answered as if it were a request",
                ))
            }
        }
    }
}
