//! Whether a network is the one that a checkpoint holds, seen from names and shapes alone: a config
//! that speaks of other sizes than its file is refused before any memory is taken for it.

use super::{Checkpoint, slots};
use crate::network::Plan;
use anyhow::{Result, bail, ensure};

impl Checkpoint {
    /// Refuses a `plan` whose parameters (and, with `momenta`, their momenta) are not the file's,
    /// or whose classes are not.
    ///
    /// # Errors
    /// A sentence with the file and the first tensor that differs.
    pub fn fits(&self, plan: &Plan, momenta: bool) -> Result<()> {
        let file = self.path.display();
        let tensors = plan.tensors();
        for tensor in &tensors {
            for (_, prefix) in slots(momenta) {
                let name = format!("{prefix}{}", tensor.name);
                let Some(shape) = self.reader.shape(&name) else {
                    bail!(
                        "{file}: it has no {name}; the network of the config is another one than \
                         it was trained with"
                    );
                };
                ensure!(
                    shape == tensor.shape,
                    "{file}: {name} has the shape {shape:?}, the network needs {:?}",
                    tensor.shape
                );
            }
        }
        let unknown = |name: &String| tensors.iter().all(|tensor| tensor.name != *name);
        let extra = self.parameters().into_iter().find(unknown);
        if let Some(name) = extra {
            bail!("{file}: the network of the config has no place for its {name}");
        }
        let (classes, outputs) = (self.facts.classes.len(), plan.classes);
        ensure!(
            classes == outputs,
            "{file}: its network tells {outputs} classes apart, its table names {classes}"
        );
        Ok(())
    }
}
