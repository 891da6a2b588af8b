//! The mean image and the principal components of the colours, of the training split.
//!
//! Both come from sums of whole numbers (u64), so they are exact and the same for any order and any
//! number of threads. The mean image is subtracted from every crop (paper, section 2); the
//! components and the standard deviations along them scale the colour noise (section 4.1).
//!
//! On disk, `statistics.safetensors`: `mean` [h, w, c] f32; `pixel_sum` [h, w, c] u64 (divided by
//! the number of images it is `mean`); `covariance` [c, c] f64; `components` [c, c] f32, a row each;
//! `deviations` [c] f32. Metadata: `crc32`, eight hex digits, over the tensors' bytes in the order
//! components, covariance, deviations, mean, pixel_sum.

mod sums;

pub use sums::Sums;

use crate::files;
use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What the network needs to know of the training split as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The mean image, [height, width, channels], grey levels.
    pub mean: Vec<f32>,
    /// [c, c]: row i is the i-th principal component of the colours, of length 1, that with the
    /// largest variance first, its entry of largest magnitude positive.
    pub components: Vec<f32>,
    /// [c]: the standard deviation along each component, grey levels (the eigenvalue's square root).
    pub deviations: Vec<f32>,
}

impl Statistics {
    /// Reads the file `path` for images of `shape` [height, width, channels].
    pub fn read(path: &Path, shape: [usize; 3]) -> Result<Statistics> {
        read(path, shape).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// Whether the colours are like those of photographs: the first component is light against
    /// dark (all entries of one sign) and holds more than half of the variance. True for grey images.
    pub fn look_natural(&self) -> bool {
        let c = self.deviations.len();
        let variance: f32 = self.deviations.iter().map(|d| d * d).sum();
        let first = self.deviations[0] * self.deviations[0];
        c == 1 || (self.components[..c].iter().all(|&x| x > 0.0) && first > 0.5 * variance)
    }
}

impl Sums {
    /// The covariance of the channels over all pixels of all images, [c, c], from exact sums.
    fn covariance(&self) -> Vec<f64> {
        let [h, w, c] = self.shape;
        let n = i128::from(self.images.max(1)) * (h * w) as i128;
        let mut channel = vec![0i128; c];
        for (at, &sum) in self.pixel.iter().enumerate() {
            channel[at % c] += i128::from(sum);
        }
        (0..c * c)
            .map(|at| {
                let product = i128::from(self.product[at]);
                (n * product - channel[at / c] * channel[at % c]) as f64 / (n * n) as f64
            })
            .collect()
    }

    /// The statistics of the images so far.
    pub fn statistics(&self) -> Statistics {
        let c = self.shape[2];
        let images = self.images.max(1) as f64;
        let (values, vectors) = eigen(self.covariance(), c);
        Statistics {
            mean: self.pixel.iter().map(|&sum| (sum as f64 / images) as f32).collect(),
            components: vectors.iter().map(|&x| x as f32).collect(),
            deviations: values.iter().map(|&x| x.max(0.0).sqrt() as f32).collect(),
        }
    }

    /// Writes the statistics to the file `path`, whole or not at all, and gives them back.
    pub fn write(&self, path: &Path) -> Result<Statistics> {
        let statistics = self.statistics();
        let c = self.shape[2];
        let f32s = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let covariance: Vec<u8> = self.covariance().iter().flat_map(|x| x.to_le_bytes()).collect();
        let pixel_sum: Vec<u8> = self.pixel.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (components, deviations) = (f32s(&statistics.components), f32s(&statistics.deviations));
        let mean = f32s(&statistics.mean);
        let tensors = [
            ("components", TensorView::new(Dtype::F32, vec![c, c], &components)?),
            ("covariance", TensorView::new(Dtype::F64, vec![c, c], &covariance)?),
            ("deviations", TensorView::new(Dtype::F32, vec![c], &deviations)?),
            ("mean", TensorView::new(Dtype::F32, self.shape.to_vec(), &mean)?),
            ("pixel_sum", TensorView::new(Dtype::U64, self.shape.to_vec(), &pixel_sum)?),
        ];
        let mut crc = crc32fast::Hasher::new();
        tensors.iter().for_each(|(_, tensor)| crc.update(tensor.data()));
        // One entry only: with more, their order in the file would change from run to run.
        let metadata = HashMap::from([("crc32".into(), format!("{:08x}", crc.finalize()))]);
        let bytes = serialize(tensors, Some(metadata))?;
        files::write_whole(path, |out| Ok(out.write_all(&bytes)?))?;
        Ok(statistics)
    }
}

fn read(path: &Path, shape: [usize; 3]) -> Result<Statistics> {
    let c = shape[2];
    let limit = shape.iter().product::<usize>() * 12 + (1 << 16);
    let length = fs::metadata(path)?.len();
    ensure!(length <= limit as u64, "{length} bytes are too many for images of {shape:?}");
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;

    let mut crc = crc32fast::Hasher::new();
    for name in ["components", "covariance", "deviations", "mean", "pixel_sum"] {
        crc.update(tensors.tensor(name)?.data());
    }
    let stored = metadata.metadata().as_ref().and_then(|m| m.get("crc32"));
    ensure!(
        stored == Some(&format!("{:08x}", crc.finalize())),
        "its checksum is wrong: the file is damaged; prepare the data set again"
    );
    let f32s = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
        let tensor = tensors.tensor(name)?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == shape,
            "`{name}` is {:?} {:?}, not F32 {shape:?}",
            tensor.dtype(),
            tensor.shape()
        );
        let values: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        ensure!(values.iter().all(|x| x.is_finite()), "`{name}` holds a value that is no number");
        Ok(values)
    };
    Ok(Statistics {
        mean: f32s("mean", &shape)?,
        components: f32s("components", &[c, c])?,
        deviations: f32s("deviations", &[c])?,
    })
}

/// Eigenvalues (largest first) and eigenvectors (rows, largest-magnitude entry positive) of the
/// symmetric matrix `a` [n, n], by Jacobi's rotations.
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(at / n == at % n)).collect();
    // A 3×3 matrix is diagonal to the last bit after some six sweeps.
    for _ in 0..64 {
        let rest: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].abs()).sum();
        if rest == 0.0 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cos = 1.0 / t.hypot(1.0);
                let sin = t * cos;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = cos * x - sin * y;
                    a[k * n + q] = sin * x + cos * y;
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = cos * x - sin * y;
                    a[q * n + k] = sin * x + cos * y;
                    let (x, y) = (vectors[p * n + k], vectors[q * n + k]);
                    vectors[p * n + k] = cos * x - sin * y;
                    vectors[q * n + k] = sin * x + cos * y;
                }
                a[p * n + q] = 0.0;
                a[q * n + p] = 0.0;
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let rows = order.iter().flat_map(|&i| {
        let row = &vectors[i * n..(i + 1) * n];
        let largest = row.iter().fold(0.0f64, |m, &x| if x.abs() > m.abs() { x } else { m });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        row.iter().map(move |x| x * sign).collect::<Vec<f64>>()
    });
    (values, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f32, b: f64) -> bool {
        (f64::from(a) - b).abs() < 1e-5 * b.abs().max(1.0)
    }

    /// NumPy: x = np.array([[[10,20,30],[40,30,20]],[[100,90,200],[0,255,7]]]) as two images of 1×2;
    /// np.linalg.eigh(np.cov(x.reshape(4,3).T, bias=True)), signs set as here.
    #[test]
    fn statistics_are_numpys() {
        let mut sums = Sums::new([1, 2, 3]);
        sums.add(&[&[10, 20, 30, 40, 30, 20]]);
        sums.add(&[&[100, 90, 200, 0, 255, 7]]);
        let s = sums.statistics();
        assert_eq!(s.mean, [55.0, 55.0, 115.0, 20.0, 142.5, 13.5]);
        let deviations = [99.1524093, 81.3834685, 11.3205906];
        let components = [
            -0.273619177,
            0.838717673,
            -0.470834589,
            0.319771959,
            0.540993555,
            0.777863656,
            0.907126474,
            0.0622787144,
            -0.416224605,
        ];
        assert!(s.deviations.iter().zip(deviations).all(|(&a, b)| close(a, b)), "{s:?}");
        assert!(s.components.iter().zip(components).all(|(&a, b)| close(a, b)), "{s:?}");
    }

    #[test]
    fn merged_parts_are_the_whole_bit_for_bit() {
        let images: Vec<Vec<u8>> = (0..9u32)
            .map(|i| (0..4 * 5 * 3).map(|j| (i * 91 + j * 37 + i * j) as u8).collect())
            .collect();
        let sum = |images: &[Vec<u8>]| {
            let mut sums = Sums::new([4, 5, 3]);
            sums.add(&images.iter().map(|image| &image[..]).collect::<Vec<_>>());
            sums
        };
        let whole = sum(&images);
        let mut parts = sum(&images[6..]);
        parts.merge(&sum(&images[..2]));
        parts.merge(&sum(&images[2..6]));
        assert_eq!(whole, parts);
        assert_eq!(whole.statistics(), parts.statistics());
    }

    #[test]
    fn grey_images_have_one_component() {
        let mut sums = Sums::new([1, 2, 1]);
        sums.add(&[&[10, 14]]);
        let s = sums.statistics();
        assert_eq!((s.components, s.deviations), (vec![1.0], vec![2.0]));
    }

    #[test]
    fn the_file_comes_back_and_a_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.safetensors");
        let mut sums = Sums::new([1, 2, 3]);
        sums.add(&[&[10, 20, 30, 40, 30, 20]]);
        let written = sums.write(&path).unwrap();
        assert_eq!(Statistics::read(&path, [1, 2, 3]).unwrap(), written);
        assert!(Statistics::read(&path, [2, 1, 3]).is_err());

        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", Statistics::read(&path, [1, 2, 3]).unwrap_err());
        assert!(error.contains("checksum is wrong"), "{error}");
    }
}
