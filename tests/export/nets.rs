//! Small networks that have between them whatever differs from program to program.

/// A config for the images of [`World::new`](crate::common::World::new): a line a layer, `name
/// kind` and then keys and values.
pub fn config(name: &str, towers: usize, layers: &[&str]) -> String {
    let mut text = format!(
        "name = \"{name}\"\nseed = 3\ntowers = {towers}\n[data]\npath = \"set\"\ncrop = 12\n\
         [train]\nbatch = 10\nepochs = 1\n[schedule]\nrate = 0.0001\npatience = 20\n"
    );
    for layer in layers {
        let mut words = layer.split(' ');
        let mut word = || words.next().unwrap();
        text += &format!("[[layer]]\nname = \"{}\"\nkind = \"{}\"\n", word(), word());
        words.for_each(|word| text += &format!("{}\n", word.replace('=', " = ")));
    }
    text
}

/// Their names and configs.
pub fn all() -> Vec<(&'static str, String)> {
    [
        // The paper's: what crosses, groups within towers, normalisation by tower, dropout; then
        // what it does not have, a layer that reads its own tower's neurons.
        (
            "paper",
            2,
            &[
                "conv1 conv kernels=8 size=3 stride=2 padding=[0,2,0,2] weight_sigma=0.1",
                "relu1 relu",
                "lrn1 lrn alpha=0.01",
                "pool1 max-pool size=3 stride=2",
                "conv2 conv kernels=8 size=3 padding=[1,1,1,1] weight_sigma=0.3",
                "relu2 relu",
                "lrn2 lrn n=3 alpha=0.3 divide_alpha=true",
                "conv3 conv kernels=8 size=3 groups=2 input=\"all-towers\" weight_sigma=0.3",
                "relu3 relu",
                "fc4 fc outputs=16 weight_sigma=0.5",
                "relu4 relu",
                "drop4 dropout rate=0.25",
                "fc5 fc outputs=10 input=\"same-tower\" weight_sigma=0.5",
                "tanh5 tanh",
                "fc6 fc outputs=\"classes\" weight_sigma=2.0",
                "softmax softmax",
            ][..],
        ),
        // Maps that are not square, where one side's last window begins outside of the map.
        (
            "edges",
            1,
            &[
                "conv1 conv kernels=6 size=6 stride=2 padding=[0,0,2,2] weight_sigma=0.01",
                "relu1 relu",
                "pool1 max-pool size=2 stride=3",
                "fc2 fc outputs=\"classes\" weight_sigma=0.3",
                "softmax softmax",
            ],
        ),
        // Averages over the edge and without it, groups on one tower, fc before conv, conv at the
        // end; dropout that scales in training.
        (
            "averages",
            1,
            &[
                "conv1 conv kernels=8 size=5 padding=[2,2,2,2] weight_sigma=0.03",
                "pool1 average-pool size=3 stride=2",
                "relu1 relu",
                "lrn1 lrn n=3 k=1.0 alpha=0.05 beta=0.5",
                "conv2 conv kernels=6 size=3 groups=2 weight_sigma=0.3",
                "tanh2 tanh",
                "pool2 average-pool size=3 stride=2 rounding=\"down\"",
                "fc3 fc outputs=8 weight_sigma=0.7",
                "lrn3 lrn n=3 alpha=0.2",
                "drop3 dropout scale=\"train\"",
                "conv4 conv kernels=3 size=1 weight_sigma=3.0",
                "softmax softmax",
            ],
        ),
        // Two towers that have seen the same before one reads both, one tower that ends, odd
        // numbers of maps, and names that Python does not have.
        (
            "odd",
            2,
            &[
                "class average-pool size=2 stride=2",
                "conv-1 conv kernels=7 size=3 input=\"all-towers\" weight_sigma=0.05",
                "1 relu",
                "lrn lrn n=3 alpha=0.02",
                "train conv kernels=5 size=3 input=\"all-towers\" weight_sigma=0.3",
                "mean tanh",
                "fc fc outputs=9 input=\"same-tower\" tower=1 weight_sigma=0.5",
                "lrn2 lrn n=3 alpha=0.2",
                "fc-6 fc outputs=\"classes\" weight_sigma=2.0",
                "softmax softmax",
            ],
        ),
    ]
    .into_iter()
    .map(|(name, towers, layers)| {
        let plain = config(name, towers, layers);
        // Factors of the channels, as others' weights have them.
        let scaled = || plain.replace("crop = 12", "crop = 12\nscale = [0.5, 1.5, 0.25]");
        (name, if name == "averages" { scaled() } else { plain })
    })
    .collect()
}
