//! The mean image and the principal components of the colours, of the training split.
//!
//! Both come from sums of whole numbers (u64), so they are exact and the same for any order and any
//! number of threads. The mean image is subtracted from every crop (paper, section 2); the
//! components and the standard deviations along them scale the colour noise (section 4.1).
//!
//! On disk, `statistics.safetensors`: `mean` [h, w, c] f32; `pixel_sum` [h, w, c] u64 (divided by
//! the number of images it is `mean`); `covariance` [c, c] f64; `components` [c, c] f32, a row
//! each; `deviations` `[c]` f32; checksums as in [`tensors`](crate::files::tensors). Files of a first
//! form, which are read too, have the metadata entry `crc32` instead: eight hex digits, over the
//! tensors' bytes in the order components, covariance, deviations, mean, pixel_sum.

mod components;
mod file;
mod sums;

pub use sums::Sums;

/// What the network needs to know of the training split as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The mean image, [height, width, channels], grey levels.
    pub mean: Vec<f32>,
    /// [c, c]: row i is the i-th principal component of the colours, of length 1, that with the
    /// largest variance first, its entry of largest magnitude positive.
    pub components: Vec<f32>,
    /// `[c]`: the standard deviation along each component, grey levels (the eigenvalue's square root).
    pub deviations: Vec<f32>,
}

impl Statistics {
    /// For each component, as a row of [c, c], its direction times `length` of its deviation: what
    /// colour noise adds multiples of.
    pub fn color_vectors(&self, length: impl Fn(f32) -> f32) -> Vec<f32> {
        let c = self.deviations.len();
        let entries = self.components.iter().enumerate();
        entries.map(|(at, entry)| entry * length(self.deviations[at / c])).collect()
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
    fn colour_vectors_are_components_of_the_wanted_length() {
        let statistics = Statistics {
            mean: vec![],
            components: vec![0.5, 1.0, -2.0, 4.0],
            deviations: vec![2.0, 3.0],
        };
        assert_eq!(statistics.color_vectors(|deviation| deviation), [1.0, 2.0, -6.0, 12.0]);
        assert_eq!(statistics.color_vectors(|d| d * d), [2.0, 4.0, -18.0, 36.0]);
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
}
