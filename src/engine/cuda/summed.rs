//! A step whose gradients are added up over several processes on the GPUs themselves.
//!
//! Once all have told their losses all have queued their sums: from then on a GPU waits for other
//! GPUs alone, not for what their hosts have to do first, and waits for it are as long as ever.

use super::pass::Update;
use super::sums::Sums;
use super::worker::Order;
use super::{Besides, Cuda};
use crate::data::form::CropView;
use crate::engine::batch::check_labels;
use crate::engine::{Exchange, Rates};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use anyhow::Result;
use std::sync::Arc;

impl Cuda {
    /// See [`Engine::exchanged_step`](crate::engine::Engine::exchanged_step). The losses are told
    /// to others while the GPUs are at the backward pass; a loss that is no number leaves its sums
    /// unused.
    pub(super) fn summed(
        &mut self,
        run: &Run,
        (images, labels, whole): (CropView<'_>, &[u32], usize),
        (momentum, rates): (f32, &[Option<Rates>]),
        (sums, exchange): (&Arc<Sums>, &mut dyn Exchange),
    ) -> Result<Tally> {
        let mut mine = Tally::default();
        if run.batch > 0 {
            check_labels(&self.network.plan, run, labels)?;
            let besides = Besides { update: None, whole: Some(whole) };
            self.pass(run, images, Some(labels), besides)?;
            mine = self.network.tally(run.batch)?;
        } else {
            self.order(Order::Nothing(sums.clone()))?;
        }
        let tally = exchange.agree(mine)?;
        let counts = tally.loss.is_finite();
        if counts {
            exchange.begins();
        }
        let rates = if counts { rates.to_vec() } else { vec![None; rates.len()] };
        let number = self.count_update();
        let update = Update { momentum, rates, number, sums: Some(sums.clone()) };
        self.order(Order::Update(Arc::new(update)))?;
        Ok(tally)
    }
}
