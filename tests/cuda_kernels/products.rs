//! Convolutions, locally and fully connected layers at odd shapes, with every tile, and at the
//! paper's shapes.

use super::conv::{Conv, check, check_along_x, check_forward, check_in};
use super::{device, standin};
use alexnet::gpu::precision::Precision;

/// Convolutions and fully connected layers with something odd in each.
fn odd() -> [Conv; 10] {
    let relu = |c| Conv { relu: true, ..c };
    let groups = |c, groups| Conv { groups, ..c };
    [
        Conv::square(2, 7, 5, 3, 3).with(1, [1, 1, 1, 1]), // nothing a multiple of 4
        relu(Conv::square(3, 9, 8, 12, 3).with(2, [1, 0, 0, 1])), // stride, uneven padding
        groups(Conv::square(2, 8, 12, 8, 5).with(1, [2, 2, 2, 2]), 2), // groups of 6 and 4
        groups(Conv::square(2, 6, 16, 24, 3).with(1, [1, 1, 1, 1]), 4), // groups of 4 and 6
        relu(Conv::square(1, 15, 3, 20, 11).with(4, [0, 3, 0, 3])), // conv1 in small
        Conv::square(2, 16, 3, 10, 4).with(4, [4, 0, 4, 0]), // runs of 12 floats
        Conv::square(1, 10, 4, 4, 2).with(3, [1, 1, 1, 1]), // stride beyond the kernel
        Conv { kernel: [2, 5], ..Conv::square(2, 9, 4, 5, 2) }.with(2, [1, 1, 2, 2]),
        Conv::fc(3, 37, 11),
        Conv::fc(5, 64, 40),
    ]
}

#[test]
fn convolutions_at_odd_shapes() {
    standin::run("products::convolutions_at_odd_shapes", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        odd().into_iter().for_each(|c| check(&device, c, None));
    });
}

#[test]
fn convolutions_on_tensor_cores() {
    standin::run("products::convolutions_on_tensor_cores", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        for precision in [Precision::Tf32, Precision::Bf16] {
            odd().into_iter().for_each(|c| check_in(precision, &device, c, None));
            let conv2 = Conv::square(1, 27, 48, 128, 5).with(1, [2; 4]);
            check_in(precision, &device, conv2, None);
            check_in(precision, &device, Conv::fc(2, 4096, 1000), None);
        }
    });
}

#[test]
fn convolutions_with_every_tile() {
    standin::run("products::convolutions_with_every_tile", &[("STANDIN_ORDER", "reverse")], || {
        let device = device(0);
        let c = Conv::square(3, 9, 24, 56, 3).with(1, [1, 1, 1, 1]);
        for tile in 0..alexnet::gpu::product::TILES.len() {
            check(&device, Conv { relu: tile % 2 == 0, ..c }, Some((tile, 1 + tile % 3)));
        }
    });
}

#[test]
fn locally_connected() {
    standin::run("products::locally_connected", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        let local = |c| Conv { local: true, ..c };
        check(&device, local(Conv::square(5, 6, 8, 12, 3).with(1, [1, 1, 1, 1])), None);
        check(&device, local(Conv::square(2, 7, 3, 5, 3).with(2, [0, 1, 1, 0])), None);
        let c = Conv { groups: 2, relu: true, ..Conv::square(3, 4, 8, 8, 3).with(1, [1, 1, 1, 1]) };
        check(&device, local(c), None);
        check_in(Precision::Tf32, &device, local(c), None);
        check_in(Precision::Bf16, &device, local(c), None);
    });
}

/// As where there are more places than blocks along z, but few of them: with groups, and with
/// several blocks of lines in every product.
#[test]
fn locally_connected_along_x() {
    standin::run("products::locally_connected_along_x", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        let c = Conv { groups: 2, ..Conv::square(40, 4, 16, 24, 3).with(1, [1, 1, 1, 1]) };
        check_along_x(Precision::F32, &device, Conv { local: true, ..c });
        check_along_x(Precision::Bf16, &device, Conv { local: true, relu: true, ..c });
    });
}

/// More than the 65,535 blocks that a grid has along z.
#[test]
fn locally_connected_at_very_many_places() {
    standin::run("products::locally_connected_at_very_many_places", &[], || {
        let many = Conv { local: true, ..Conv::square(1, 257, 1, 1, 1) };
        check_forward(&device(0), many);
    });
}

/// The paper's layers as they are on one of two towers, with a batch of one image (fc: two).
#[test]
fn the_papers_conv1() {
    standin::run("products::the_papers_conv1", &[], || {
        let conv1 = Conv::square(1, 224, 3, 48, 11).with(4, [0, 3, 0, 3]);
        let device = device(0);
        check(&device, Conv { relu: true, ..conv1 }, None);
        check(&device, conv1, Some((4, 3))); // the tile for a batch of 128
    });
}

#[test]
fn the_papers_conv2() {
    standin::run("products::the_papers_conv2", &[("STANDIN_ORDER", "reverse")], || {
        let (device, conv2) = (device(0), Conv::square(1, 27, 48, 128, 5).with(1, [2; 4]));
        check(&device, conv2, None);
        check(&device, conv2, Some((0, 2))); // the tile for a batch of 128
    });
}

#[test]
fn the_papers_conv3_4_5() {
    standin::run("products::the_papers_conv3_4_5", &[], || {
        let device = device(0);
        check(&device, Conv::square(1, 13, 256, 192, 3).with(1, [1; 4]), None);
        check(&device, Conv::square(1, 13, 256, 192, 3).with(1, [1; 4]), Some((1, 2)));
        check(&device, Conv::square(1, 13, 192, 192, 3).with(1, [1; 4]), None);
        check(&device, Conv::square(2, 13, 192, 128, 3).with(1, [1; 4]), None);
        // Both towers in one: two groups.
        let conv4 = Conv::square(1, 13, 384, 384, 3).with(1, [1; 4]);
        check(&device, Conv { groups: 2, ..conv4 }, None);
    });
}

#[test]
fn the_papers_fc6_and_fc8() {
    standin::run("products::the_papers_fc6_and_fc8", &[], || {
        let device = device(0);
        check(&device, Conv { relu: true, ..Conv::fc(2, 9216, 2048) }, None);
        check(&device, Conv::fc(2, 4096, 1000), None);
    });
}
