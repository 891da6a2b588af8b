//! What layers are called as attributes of a module in Python.

use std::collections::{BTreeMap, BTreeSet};

/// Names that a layer cannot have as an attribute of a module: Python's own words, and what
/// PyTorch's class for modules (2.15) or the network's has already. Those with an underscore in
/// front are left out, since no name here gets one.
const TAKEN: &str = "\
    False None True and as assert async await break class continue def del elif else except \
    finally for from global if import in is lambda nonlocal not or pass raise return try while \
    with yield T_destination add_module apply bfloat16 buffers call_super_init children compile \
    cpu cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state \
    get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers \
    named_children named_modules named_parameters parameters register_backward_hook \
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook \
    register_full_backward_pre_hook register_load_state_dict_post_hook \
    register_load_state_dict_pre_hook register_module register_parameter \
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state \
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad mean \
    scale";

/// What layers are called in Python: as here, where that is a name there.
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Of these layers.
    pub fn new<'a>(layers: impl Iterator<Item = &'a str>) -> Names {
        let (mut names, mut used) = (BTreeMap::new(), BTreeSet::new());
        for layer in layers {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let mut name: String = layer.chars().map(plain).collect();
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                name.insert_str(0, "layer");
            }
            while TAKEN.split_whitespace().any(|taken| taken == name) || used.contains(&name) {
                name.push('_');
            }
            if !names.contains_key(layer) {
                used.insert(name.clone());
                names.insert(layer.to_string(), name);
            }
        }
        Names(names)
    }

    /// What the layer is called.
    pub fn of(&self, layer: &str) -> &str {
        &self.0[layer]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_unless_python_has_no_such_name() {
        let layers = ["conv1", "fc-6", "fc_6", "train", "class", "7", "größe", "mean", "conv1"];
        let names = Names::new(layers.into_iter());
        let python: Vec<&str> = layers.iter().map(|layer| names.of(layer)).collect();
        let wanted = ["conv1", "fc_6", "fc_6_", "train_", "class_", "layer7", "gr__e", "mean_"];
        assert_eq!(python[..8], wanted);
        assert_eq!(python[8], "conv1");
    }
}
