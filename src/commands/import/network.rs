//! Which network a file is of: one that is known, its widths and what else differs fitted to the
//! file, or that of a config.

use super::theirs::Learnt;
use crate::config::shipped::{self, CAFFE_ALEXNET, CAFFENET, Shipped, TORCHVISION};
use crate::config::{Config, LayerConfig};
use crate::config_error;
use crate::weights::Weights;
use crate::weights::graph::{Graph, Operator, Step};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use toml::{Table, Value};

/// A network for a file's weights.
pub struct Network {
    /// What it is.
    pub config: Config,
    /// Where the config comes from, for people.
    pub source: String,
    /// The known network that it is like, if it is.
    pub known: Option<Shipped>,
    /// What was changed in it to fit the file: `layer.conv1.kernels=32`.
    pub fitted: Vec<String>,
}

/// The network of `file`, whose layers with weights are `learnt`; `named`: by the user, a config's
/// file or the name of a known one.
///
/// # Errors
/// A sentence: it is none that is known, and what the first difference is.
pub fn find(file: &Weights, learnt: &[Learnt], named: Option<&Path>) -> Result<Network> {
    if let Some(path) = named {
        let known = path.to_str().and_then(shipped::known).filter(|_| !path.is_file());
        let Some(known) = known else {
            let (config, source) = (Config::read(path, &[])?, path.display().to_string());
            return Ok(Network { config, source, known: None, fitted: Vec::new() });
        };
        return fit(known, file, learnt);
    }
    let known = match &file.graph {
        Some(graph) => of_graph(graph),
        None => of_shapes(learnt)?,
    };
    let hint = "; --config FILE names another network";
    fit(known, file, learnt).map_err(|error| config_error!("{error:#}{hint}"))
}

/// The known network that a graph is like: told apart by its normalisation.
fn of_graph(graph: &Graph) -> Shipped {
    let first = |kind: &str| graph.steps.iter().position(|step| step.operator.kind() == kind);
    match (first("lrn"), first("max-pool")) {
        (None, _) => TORCHVISION,
        (Some(lrn), Some(pool)) if pool < lrn => CAFFENET,
        _ => CAFFE_ALEXNET,
    }
}

/// The known network that weights of these shapes are of.
fn of_shapes(learnt: &[Learnt]) -> Result<Shipped> {
    let slides: Vec<&Learnt> = learnt.iter().filter(|layer| layer.slides()).collect();
    let [first, second, ..] = slides[..] else {
        return Err(config_error!(
            "it has {} convolutions, and none of the known networks has so few; --config FILE says \
             which network it is",
            slides.len()
        ));
    };
    if first.shape()[0] != second.shape()[1] {
        return Err(config_error!(
            "{} reads {} of {} maps, so it has groups, as Caffe's networks have, and names and \
             shapes do not tell which of them it is: say --config caffe-alexnet, or --config \
             caffenet where pooling comes before normalisation",
            second.name,
            second.shape()[1],
            first.shape()[0]
        ));
    }
    Ok(TORCHVISION)
}

/// The network `known` with the widths of `file`, and what else its graph says.
fn fit(known: Shipped, file: &Weights, learnt: &[Learnt]) -> Result<Network> {
    let read = |set: &[String]| Config::parse(known.text, set, known.name);
    let plain = read(&[])?;
    let mut set = match &file.graph {
        Some(graph) => by_graph(&plain, graph, known.name)?,
        None => Vec::new(),
    };
    set.extend(by_shapes(&plain, learnt, known.name)?);
    let (config, source) = (read(&set)?, known.name.to_string());
    Ok(Network { config, source, known: Some(known), fitted: set })
}

/// The widths of `learnt`, as far as they are others than those of `config`.
fn by_shapes(config: &Config, learnt: &[Learnt], name: &str) -> Result<Vec<String>> {
    let layers: Vec<&LayerConfig> = config.layers.iter().filter(|l| l.weights.is_some()).collect();
    ensure!(
        layers.len() == learnt.len(),
        "it has {} layers with weights ({}), {name} has {}",
        learnt.len(),
        learnt.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(", "),
        layers.len()
    );
    let (mut set, mut maps) = (Vec::new(), config.data.channels.unwrap_or(3));
    for (layer, theirs) in layers.into_iter().zip(learnt) {
        let (name, shape, table) = (&layer.name, theirs.shape(), layer.settings.to_table());
        let mut want = |key: &str, value: usize| {
            let is = table.get(key).and_then(Value::as_integer);
            if is.is_some_and(|is| is != value as i64) {
                set.push(format!("layer.{name}.{key}={value}"));
            }
        };
        match (layer.kind.name, shape) {
            ("conv", &[kernels, depth, ..]) => {
                want("kernels", kernels);
                if depth > 0 && maps.is_multiple_of(depth) && maps > 0 {
                    want("groups", maps / depth);
                }
                maps = kernels;
            }
            // The number of outputs is that of the classes.
            (_, &[outputs, ..]) => want("outputs", outputs),
            _ => {}
        }
    }
    Ok(set)
}

/// What `graph` says of its layers and its input, as far as it is other than `config`.
fn by_graph(config: &Config, graph: &Graph, name: &str) -> Result<Vec<String>> {
    let mut set = Vec::new();
    if let Some([channels, height, width]) = graph.input {
        ensure!(height == width, "its images are {height}×{width}; square ones are wanted");
        if config.data.crop != height {
            set.push(format!("data.crop={height}"));
        }
        ensure!(channels == 3, "its images have {channels} channels; three are wanted");
    }
    // Files for use leave out dropout, and often the probabilities.
    let counts = |kind: &str| !matches!(kind, "dropout" | "softmax");
    let layers: Vec<&LayerConfig> =
        config.layers.iter().filter(|layer| counts(layer.kind.name)).collect();
    let steps: Vec<&Step> =
        graph.steps.iter().filter(|step| counts(step.operator.kind())).collect();
    for at in 0..layers.len().max(steps.len()) {
        match (layers.get(at), steps.get(at)) {
            (Some(layer), Some(step)) if layer.kind.name == step.operator.kind() => {
                let wanted = settings(&step.operator).with_context(|| step.name.clone())?;
                set.extend(changes(layer, wanted));
            }
            (Some(layer), Some(step)) => bail!(
                "its {} is a layer of kind {}, where {name} has {}, of kind {}",
                step.name,
                step.operator.kind(),
                layer.name,
                layer.kind.name
            ),
            (Some(layer), None) => bail!("it ends where {name} has {}", layer.name),
            (None, Some(step)) => {
                bail!("it goes on with {} where {name} has its last layer", step.name)
            }
            (None, None) => {}
        }
    }
    set.extend(dropout(config, graph));
    Ok(set)
}

/// The rates of dropout, where the graph has as many such layers.
fn dropout(config: &Config, graph: &Graph) -> Vec<String> {
    let layers = config.layers.iter().filter(|layer| layer.kind.name == "dropout");
    let rates = graph.steps.iter().filter_map(|step| match step.operator {
        Operator::Dropout(rate) => rate.to_string().parse::<f64>().ok(),
        _ => None,
    });
    let (layers, rates): (Vec<_>, Vec<f64>) = (layers.collect(), rates.collect());
    if layers.len() != rates.len() {
        return Vec::new();
    }
    let pairs = layers.into_iter().zip(rates);
    let rate = |rate: f64| Table::from_iter([("rate".to_string(), Value::Float(rate))]);
    pairs.flat_map(|(layer, found)| changes(layer, rate(found))).collect()
}

/// The keys of a layer that does what `operator` does, beside its width.
fn settings(operator: &Operator) -> Result<Table> {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| _ = table.insert(key.into(), value);
    let whole = |number: usize| i64::try_from(number).map(Value::Integer);
    // A float as a person would write it, so that 0.0001 stays 0.0001.
    let real = |number: f32| number.to_string().parse().map(Value::Float);
    match *operator {
        Operator::Conv { stride, padding, groups, .. } => {
            put("stride", whole(stride)?);
            put("groups", whole(groups)?);
            let sides = padding.into_iter().map(whole).collect::<Result<Vec<_>, _>>()?;
            put("padding", Value::Array(sides));
        }
        Operator::Pool { size, stride, padding, up, .. } => {
            put("size", whole(size)?);
            put("stride", whole(stride)?);
            put("rounding", if over_the_edge(stride, padding, up)? { "up" } else { "down" }.into());
        }
        Operator::Lrn { n, alpha, beta, k, within_map } => {
            put("n", whole(n)?);
            put("alpha", real(alpha)?);
            put("beta", real(beta)?);
            put("k", real(k)?);
            put("region", if within_map { "within-map" } else { "across-maps" }.into());
            put("divide_alpha", true.into());
        }
        _ => {}
    }
    Ok(table)
}

/// Whether windows that hang over the lower and the right edge count. Padding there by one less
/// than the stride comes to the same.
fn over_the_edge(stride: usize, padding: [usize; 4], up: bool) -> Result<bool> {
    let [top, bottom, left, right] = padding;
    match (top, left, bottom, right) {
        (0, 0, 0, 0) => Ok(up),
        (0, 0, down, across) if down == across && down + 1 == stride && !up => Ok(true),
        _ => bail!("its windows cover {padding:?} pixels beyond the edges, which is not known"),
    }
}

/// The keys of `wanted` that are others in `layer`.
fn changes(layer: &LayerConfig, wanted: Table) -> Vec<String> {
    let table = layer.settings.to_table();
    let default = |key: &str| match key {
        "rounding" => Some(Value::from("up")),
        _ => None,
    };
    let other = |(key, value): (String, Value)| {
        let is = table.get(&key).cloned().or_else(|| default(&key));
        (is.as_ref() != Some(&value)).then(|| format!("layer.{}.{key}={value}", layer.name))
    };
    wanted.into_iter().filter_map(other).collect()
}
