//! What Caffe's layers are told: kinds and settings, and the operators that they come to.

use super::decoded;
use crate::weights::graph::Operator;
use anyhow::{Context, Result, bail, ensure};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Convolution {
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pad: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "4")]
    kernel_size: Vec<u32>,
    #[prost(uint32, optional, tag = "5")]
    group: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "6")]
    stride: Vec<u32>,
    #[prost(uint32, optional, tag = "9")]
    pad_h: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pad_w: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    stride_h: Option<u32>,
    #[prost(uint32, optional, tag = "14")]
    stride_w: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "18")]
    dilation: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Pooling {
    #[prost(int32, tag = "1")]
    pool: i32,
    #[prost(uint32, optional, tag = "2")]
    kernel_size: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    stride: Option<u32>,
    #[prost(uint32, tag = "4")]
    pad: u32,
    #[prost(uint32, optional, tag = "5")]
    kernel_h: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    kernel_w: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    stride_h: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    stride_w: Option<u32>,
    #[prost(uint32, tag = "9")]
    pad_h: u32,
    #[prost(uint32, tag = "10")]
    pad_w: u32,
    #[prost(bool, tag = "12")]
    global_pooling: bool,
    #[prost(int32, tag = "13")]
    round_mode: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Normalisation {
    #[prost(uint32, optional, tag = "1")]
    local_size: Option<u32>,
    #[prost(float, optional, tag = "2")]
    alpha: Option<f32>,
    #[prost(float, optional, tag = "3")]
    beta: Option<f32>,
    #[prost(int32, tag = "4")]
    norm_region: i32,
    #[prost(float, optional, tag = "5")]
    k: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct Dropout {
    #[prost(float, optional, tag = "1")]
    dropout_ratio: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct Relu {
    #[prost(float, tag = "1")]
    negative_slope: f32,
}

#[derive(Clone, PartialEq, Message)]
struct InnerProduct {
    #[prost(bool, tag = "6")]
    transpose: bool,
}

/// Whose settings a message is.
#[derive(Clone, Copy)]
pub enum Which {
    Convolution,
    Pooling,
    Normalisation,
    Dropout,
    Relu,
    InnerProduct,
}

/// The settings in field `number` of a layer, if they are some of those that matter.
pub fn which(number: u32, old: bool) -> Option<Which> {
    Some(match (number, old) {
        (10, true) | (106, false) => Which::Convolution,
        (19, true) | (121, false) => Which::Pooling,
        (18, true) | (118, false) => Which::Normalisation,
        (12, true) | (108, false) => Which::Dropout,
        (30, true) | (123, false) => Which::Relu,
        (17, true) | (117, false) => Which::InnerProduct,
        _ => return None,
    })
}

/// The kind that old files give by a number (`V1LayerParameter.LayerType`).
///
/// # Errors
/// If it is none that these networks have.
pub fn old_kind(number: u64) -> Result<&'static str> {
    Ok(match number {
        1 => "Accuracy",
        4 => "Convolution",
        5 | 9 | 12 | 24 | 29 | 32 => "Data",
        6 => "Dropout",
        8 => "Flatten",
        14 => "InnerProduct",
        15 => "LRN",
        17 => "Pooling",
        18 => "ReLU",
        20 => "Softmax",
        21 => "SoftmaxWithLoss",
        22 => "Split",
        36 => "Silence",
        other => {
            bail!("it is of Caffe's old kind number {other}, which these networks do not have")
        }
    })
}

/// The settings of a layer.
#[derive(Default)]
pub struct Settings {
    convolution: Convolution,
    pooling: Pooling,
    normalisation: Normalisation,
    dropout: Dropout,
    relu: Relu,
    inner: InnerProduct,
}

/// What a layer comes to.
pub enum Made {
    /// This.
    Operator(Operator),
    /// Nothing that changes values.
    Nothing,
}

impl Settings {
    /// Takes a message of settings.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn take(&mut self, which: Which, bytes: &[u8]) -> Result<()> {
        match which {
            Which::Convolution => self.convolution = decoded(bytes)?,
            Which::Pooling => self.pooling = decoded(bytes)?,
            Which::Normalisation => self.normalisation = decoded(bytes)?,
            Which::Dropout => self.dropout = decoded(bytes)?,
            Which::Relu => self.relu = decoded(bytes)?,
            Which::InnerProduct => self.inner = decoded(bytes)?,
        }
        Ok(())
    }

    /// What a layer of `kind` does with these weights and biases.
    ///
    /// # Errors
    /// If the kind is not known, or its settings ask for what is not there in these networks.
    pub fn operator(&self, kind: &str, weight: Option<usize>, bias: Option<usize>) -> Result<Made> {
        let weight = || weight.context("it has no weights");
        Ok(Made::Operator(match kind {
            "Data" | "Input" | "ImageData" | "HDF5Data" | "MemoryData" | "DummyData"
            | "WindowData" | "Accuracy" | "Silence" | "Split" | "Flatten" => {
                return Ok(Made::Nothing);
            }
            "Convolution" => self.convolution(weight()?, bias)?,
            "InnerProduct" => {
                ensure!(!self.inner.transpose, "its weights are transposed, which is not known");
                Operator::Fc { weight: weight()?, bias }
            }
            "ReLU" => {
                let slope = self.relu.negative_slope;
                ensure!(slope == 0.0, "it is a leaky ReLU (slope {slope}), which is not known");
                Operator::Relu
            }
            "Pooling" => self.pooling()?,
            "LRN" => self.normalisation()?,
            "Dropout" => Operator::Dropout(self.dropout.dropout_ratio.unwrap_or(0.5)),
            "Softmax" | "SoftmaxWithLoss" => Operator::Softmax,
            other => bail!("it is of the kind {other:?}, which these networks do not have"),
        }))
    }

    fn convolution(&self, weight: usize, bias: Option<usize>) -> Result<Operator> {
        let c = &self.convolution;
        ensure!(c.dilation.iter().all(|&d| d == 1), "its kernels are dilated, which is not known");
        let stride = even(&c.stride, (c.stride_h, c.stride_w), 1)?;
        let pad = even(&c.pad, (c.pad_h, c.pad_w), 0)?;
        let groups = c.group.unwrap_or(1) as usize;
        Ok(Operator::Conv { weight, bias, stride, padding: [pad; 4], groups })
    }

    fn pooling(&self) -> Result<Operator> {
        let p = &self.pooling;
        ensure!(!p.global_pooling, "it pools over the whole map, which is not known");
        ensure!(p.pool != 2, "it pools at random, which is not known");
        let one = |value: Option<u32>| value.into_iter().collect::<Vec<_>>();
        let pads = if p.pad_h == p.pad_w { p.pad.max(p.pad_h) } else { u32::MAX };
        ensure!(pads != u32::MAX, "it pads rows and columns differently, which is not known");
        Ok(Operator::Pool {
            largest: p.pool == 0,
            size: even(&one(p.kernel_size), (p.kernel_h, p.kernel_w), 0)?,
            stride: even(&one(p.stride), (p.stride_h, p.stride_w), 1)?,
            padding: [pads as usize; 4],
            up: p.round_mode == 0,
        })
    }

    fn normalisation(&self) -> Result<Operator> {
        let l = &self.normalisation;
        Ok(Operator::Lrn {
            n: l.local_size.unwrap_or(5) as usize,
            alpha: l.alpha.unwrap_or(1.0),
            beta: l.beta.unwrap_or(0.75),
            k: l.k.unwrap_or(1.0),
            within_map: l.norm_region == 1,
        })
    }
}

/// One number for both directions: given once, once for each, or for each by name.
fn even(given: &[u32], named: (Option<u32>, Option<u32>), default: u32) -> Result<usize> {
    let (down, across) = match (given, named) {
        ([], (None, None)) => (default, default),
        ([], (down, across)) => (down.unwrap_or(default), across.unwrap_or(default)),
        ([both], _) => (*both, *both),
        ([down, across], _) => (*down, *across),
        _ => bail!("it has settings for more than two directions"),
    };
    ensure!(down == across, "it treats rows and columns differently ({down}, {across})");
    Ok(down as usize)
}
