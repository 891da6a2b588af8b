//! What there is to see of one pass through a network: gradients as far as the image. A plan of
//! [`Mode::Explanation`] has room for it.

use super::Cpu;
use crate::data::form::CropView;
use crate::engine::Engine;
use crate::layers::Run;
use crate::network::{Mode, Task};
use anyhow::{Result, ensure};

impl Cpu {
    /// How each image's score for its class in `classes`, what softmax reads of that class, changes
    /// with every value of the image: [run.batch, input]. Towers that read the same image add up.
    ///
    /// # Errors
    /// If the plan is of another mode, or a class is none of its outputs.
    pub fn gradient_at_image(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        classes: &[u32],
    ) -> Result<Vec<f32>> {
        ensure!(
            self.plan.mode == Mode::Explanation,
            "the network was not planned for gradients at its image; this is an error in the program"
        );
        let of_network = classes.iter().all(|&class| (class as usize) < self.plan.classes);
        ensure!(
            classes.len() == run.batch && of_network,
            "an image has one class of the network's"
        );
        self.forward(run, images)?;
        for index in 0..self.backward.len() {
            match self.backward[index] {
                // In the place of the loss the score itself.
                Task::Backward { layer, part, .. } if layer + 1 == self.plan.layers.len() => {
                    self.score_gradient(layer, part, classes);
                }
                task => self.run(task, run, &[]),
            }
        }
        let values = run.batch * self.plan.input.len();
        let mut gradient = vec![0.0; values];
        for part in &self.plan.layers[0].parts {
            let dx = &self.buffers[part.dx.expect("planned as far as the image")][..values];
            gradient.iter_mut().zip(dx).for_each(|(sum, dx)| *sum += dx);
        }
        Ok(gradient)
    }

    /// One at each image's class, zero elsewhere.
    fn score_gradient(&mut self, layer: usize, part: usize, classes: &[u32]) {
        let Some(id) = self.plan.layers[layer].parts[part].dx else { return };
        for (dx, &class) in self.buffers[id].chunks_exact_mut(self.plan.classes).zip(classes) {
            dx.fill(0.0);
            dx[class as usize] = 1.0;
        }
    }
}
