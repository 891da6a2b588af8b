//! Every layer kind's forward pass in f64, image by image, as the obvious loops over the formula.
//!
//! Written to be read beside the paper and shares no code with the crate; speed does not matter.
//! Gradients need no reference of their own: they are differences of these functions.

use super::{Case, FIRST_IMAGE, NAME, SEED, STEP};
use toml::Value;

/// One image's kernel maps [height, width, channels].
#[derive(Clone, Debug)]
pub struct Maps {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Vec<f64>,
}

impl Maps {
    pub fn new([height, width, channels]: [usize; 3], values: Vec<f64>) -> Maps {
        assert_eq!(values.len(), height * width * channels);
        Maps { height, width, channels, values }
    }

    /// Fills maps by calling `value(row, column, channel)`.
    fn from(shape: [usize; 3], mut value: impl FnMut(usize, usize, usize) -> f64) -> Maps {
        let [height, width, channels] = shape;
        let mut values = Vec::with_capacity(height * width * channels);
        for y in 0..height {
            for x in 0..width {
                values.extend((0..channels).map(|c| value(y, x, c)));
            }
        }
        Maps { height, width, channels, values }
    }

    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    fn at(&self, y: usize, x: usize, c: usize) -> f64 {
        self.values[(y * self.width + x) * self.channels + c]
    }

    /// The value at a position counted from the first row and column, zero outside.
    fn padded(&self, y: isize, x: isize, c: usize) -> f64 {
        let inside = |v: isize, n: usize| v >= 0 && v < n as isize;
        if inside(y, self.height) && inside(x, self.width) {
            self.at(y as usize, x as usize, c)
        } else {
            0.0
        }
    }

    /// The maps of several towers side by side.
    pub fn join(towers: &[&Maps]) -> Maps {
        let channels = towers.iter().map(|t| t.channels).sum();
        let shape = [towers[0].height, towers[0].width, channels];
        let of = |y, x, mut c: usize| {
            for tower in towers {
                if c < tower.channels {
                    return tower.at(y, x, c);
                }
                c -= tower.channels;
            }
            unreachable!("as many channels as the towers have")
        };
        Maps::from(shape, of)
    }
}

/// The layer's output for image `image` of the batch; weights and biases in the outside world's
/// order.
pub fn forward(case: &Case, image: usize, x: &Maps, weight: &[f64], bias: &[f64]) -> Maps {
    assert_eq!(x.shape(), case.input, "{case}");
    match case.kind {
        "conv" => conv(case, x, weight, bias),
        "local" => local(case, x, weight, bias),
        "fc" => fc(case, x, weight, bias),
        "lrn" => lrn(case, x),
        "max-pool" => pool(case, x, |window| window.iter().copied().fold(f64::MIN, f64::max)),
        "average-pool" => pool(case, x, |window| window.iter().sum::<f64>() / window.len() as f64),
        "relu" => Maps::from(x.shape(), |y, column, c| x.at(y, column, c).max(0.0)),
        "tanh" => Maps::from(x.shape(), |y, column, c| x.at(y, column, c).tanh()),
        "dropout" => dropout(case, image, x),
        "softmax" => softmax(x),
        "squared-error" => x.clone(),
        other => panic!("{other} has no reference"),
    }
}

/// −ln of the label's probability under the softmax of `logits`.
pub fn log_loss(logits: &[f64], label: u32) -> f64 {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
    sum.ln() + most - logits[label as usize]
}

fn whole(case: &Case, key: &str, default: usize) -> usize {
    case.settings.get(key).map_or(default, |v| v.as_integer().unwrap() as usize)
}

fn real(case: &Case, key: &str, default: f64) -> f64 {
    let number = |v: &Value| v.as_float().unwrap_or_else(|| v.as_integer().unwrap() as f64);
    case.settings.get(key).map_or(default, number)
}

/// Padding as written: top, bottom, left, right.
fn padding(case: &Case) -> [usize; 4] {
    let Some(sides) = case.settings.get("padding") else { return [0; 4] };
    let side = |i: usize| sides[i].as_integer().unwrap() as usize;
    [side(0), side(1), side(2), side(3)]
}

/// Output of conv and local layers: as many whole windows as fit into the padded map.
fn window_output(case: &Case) -> [usize; 3] {
    let ([height, width, _], [top, bottom, left, right]) = (case.input, padding(case));
    let (size, stride) = (whole(case, "size", 0), whole(case, "stride", 1));
    let count = |padded: usize| (0..).take_while(|i| i * stride + size <= padded).count();
    [count(height + top + bottom), count(width + left + right), case.channels.len()]
}

/// Σ over one kernel's window at output (`oy`, `ox`); `kernel` [in per group, height, width].
fn under_kernel(case: &Case, x: &Maps, kernel: &[f64], oy: usize, ox: usize, o: usize) -> f64 {
    let (size, stride) = (whole(case, "size", 0), whole(case, "stride", 1));
    let groups = whole(case, "groups", 1);
    let [top, _, left, _] = padding(case);
    let inputs = x.channels / groups;
    let group = o / (case.channels.len() / groups);
    let mut sum = 0.0;
    for c in 0..inputs {
        for ky in 0..size {
            for kx in 0..size {
                let y = (oy * stride + ky) as isize - top as isize;
                let column = (ox * stride + kx) as isize - left as isize;
                let value = x.padded(y, column, group * inputs + c);
                sum += kernel[(c * size + ky) * size + kx] * value;
            }
        }
    }
    sum
}

/// Weights [out, in per group, height, width], biases [out].
fn conv(case: &Case, x: &Maps, weight: &[f64], bias: &[f64]) -> Maps {
    let n = weight.len() / case.channels.len();
    Maps::from(window_output(case), |oy, ox, o| {
        bias[o] + under_kernel(case, x, &weight[o * n..(o + 1) * n], oy, ox, o)
    })
}

/// Weights [out, out height, out width, in per group, height, width], biases [out, out height, out
/// width].
fn local(case: &Case, x: &Maps, weight: &[f64], bias: &[f64]) -> Maps {
    let shape = window_output(case);
    let [height, width, channels] = shape;
    let n = weight.len() / (height * width * channels);
    Maps::from(shape, |oy, ox, o| {
        let unit = (o * height + oy) * width + ox;
        bias[unit] + under_kernel(case, x, &weight[unit * n..(unit + 1) * n], oy, ox, o)
    })
}

/// Weights [out, channel, row, column], biases [out].
fn fc(case: &Case, x: &Maps, weight: &[f64], bias: &[f64]) -> Maps {
    Maps::from([1, 1, case.channels.len()], |_, _, o| {
        let mut sum = bias[o];
        for c in 0..x.channels {
            for y in 0..x.height {
                for column in 0..x.width {
                    let input = (c * x.height + y) * x.width + column;
                    sum += weight[o * x.values.len() + input] * x.at(y, column, c);
                }
            }
        }
        sum
    })
}

/// Paper section 3.3: b = a / (k + α Σ a²)^β over n adjacent maps, or n × n positions of one map.
fn lrn(case: &Case, x: &Maps) -> Maps {
    let n = whole(case, "n", 5);
    let (k, beta) = (real(case, "k", 2.0), real(case, "beta", 0.75));
    let mut alpha = real(case, "alpha", 1e-4);
    let within = case.settings.get("region").and_then(Value::as_str) == Some("within-map");
    if case.settings.get("divide_alpha").and_then(Value::as_bool) == Some(true) {
        alpha /= if within { n * n } else { n } as f64;
    }
    let around = |i: usize, count: usize| i.saturating_sub(n / 2)..=(i + n / 2).min(count - 1);
    Maps::from(x.shape(), |y, column, c| {
        let mut sum = 0.0;
        if within {
            for near_y in around(y, x.height) {
                for near_x in around(column, x.width) {
                    sum += x.at(near_y, near_x, c).powi(2);
                }
            }
        } else {
            for j in around(c, x.channels) {
                sum += x.at(y, column, j).powi(2);
            }
        }
        x.at(y, column, c) / (k + alpha * sum).powf(beta)
    })
}

/// Windows until one reaches the edge or the next would begin outside; `of` makes one value of what
/// lies inside the map.
fn pool(case: &Case, x: &Maps, of: impl Fn(&[f64]) -> f64) -> Maps {
    let (size, stride) = (whole(case, "size", 0), whole(case, "stride", 0));
    let down = case.settings.get("rounding").and_then(Value::as_str) == Some("down");
    let count = |extent: usize| {
        if down {
            return (0..extent).step_by(stride).filter(|start| start + size <= extent).count();
        }
        let mut windows = 1;
        while (windows - 1) * stride + size < extent && windows * stride < extent {
            windows += 1;
        }
        windows
    };
    Maps::from([count(x.height), count(x.width), x.channels], |oy, ox, c| {
        let mut window = Vec::new();
        for y in oy * stride..(oy * stride + size).min(x.height) {
            for column in ox * stride..(ox * stride + size).min(x.width) {
                window.push(x.at(y, column, c));
            }
        }
        of(&window)
    })
}

fn softmax(x: &Maps) -> Maps {
    let most = x.values.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = x.values.iter().map(|x| (x - most).exp()).sum();
    Maps::from(x.shape(), |y, column, c| (x.at(y, column, c) - most).exp() / sum)
}

/// Paper section 4.2: in training zero with probability `rate`, in evaluation times 1 − `rate`; with
/// `scale = "train"` in training over 1 − `rate` instead.
///
/// Neuron j, counted row, column, channel over all towers, is dropped where word j mod 4 of the
/// random block with counter (j / 4, image, step, 2·2²⁴ + 24 bits of the name's CRC-32) is below
/// rate · 2³².
fn dropout(case: &Case, image: usize, x: &Maps) -> Maps {
    let rate = real(case, "rate", 0.5);
    let purpose = 2 << 24 | (crc32(NAME.as_bytes()) & 0xff_ffff);
    Maps::from(x.shape(), |y, column, c| {
        let value = x.at(y, column, c);
        let (kept, all) = match case.settings.get("scale").and_then(Value::as_str) {
            Some("train") => (value / (1.0 - rate), value),
            _ => (value, value * (1.0 - rate)),
        };
        if !case.training {
            return all;
        }
        let j = (y * x.width + column) * case.all_channels + case.channels.start + c;
        let counter = [j as u32 / 4, FIRST_IMAGE + image as u32, STEP, purpose];
        let word = philox(counter, [SEED as u32, (SEED >> 32) as u32])[j % 4];
        if f64::from(word) < rate * 2f64.powi(32) { 0.0 } else { kept }
    })
}

/// Philox-4x32-10 (Salmon et al., SC 2011, section 3.3): a round multiplies two of the four words
/// with a constant each, swaps halves and adds the key, which grows by the Weyl constants.
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = 0xd251_1f53u64 * u64::from(c[0]);
        let second = 0xcd9e_8d57u64 * u64::from(c[2]);
        let (high, low) = (|p: u64| (p >> 32) as u32, |p: u64| p as u32);
        c = [high(second) ^ c[1] ^ key[0], low(second), high(first) ^ c[3] ^ key[1], low(first)];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    c
}

/// CRC-32 as in zip files, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn philox_gives_its_published_answers() {
    // Random123's kat_vectors, philox4x32 with 10 rounds.
    assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(
        philox([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
    );
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
