//! Copies, launches and the host: what events, streams and waits put in order.

use super::{add_one, device, kernel, planted};
use crate::standin::{self, RACES};
use alexnet::gpu::device::Device;
use alexnet::gpu::link::Link;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::stream::Stream;
use std::sync::Arc;

/// Queues a copy to the device.
///
/// # Safety
/// The caller keeps `values` until the copy is done.
unsafe fn upload(stream: &Stream, values: &[f32], to: &Buffer<f32>) {
    // SAFETY: as the caller promises.
    let queued = unsafe { stream.write_later(values, to) };
    let _ = queued; // refused after a fault that was seen
}

/// Two buffers of 64 floats on a device, both written.
fn buffers(device: &Device) -> [Buffer<f32>; 2] {
    [(); 2].map(|()| device.buffer_of(&[1f32; 64]).unwrap())
}

/// The launch may read what the copy has not written yet.
fn read_before_written(fault: bool) {
    let device = device(0);
    let [x, y] = buffers(&device);
    let (add, uploaded) = (kernel(&device, "add_one"), device.event(false).unwrap());
    let values = device.pinned::<f32>(64).unwrap();
    // SAFETY: `values` live until the device is waited for below.
    unsafe { upload(&device.upload, &values, &x) };
    device.upload.record(&uploaded).unwrap();
    if !fault {
        device.compute.wait_for(&uploaded).unwrap();
    }
    add_one(&device.compute, &add, (&x, &y), (0, 64));
    let _ = device.wait();
}

const READ_BEFORE_WRITTEN: [&str; 3] =
    ["kernel add_one (on stream 1 of device 0)", "a copy to the device (on stream 2", "256 bytes"];

#[test]
fn a_launch_reads_what_a_copy_writes() {
    let test = "order::a_launch_reads_what_a_copy_writes";
    planted(test, &RACES, &READ_BEFORE_WRITTEN, read_before_written);
}

/// Here the copy has long run when the launch is queued.
#[test]
fn whatever_ran_first() {
    let switches = [&RACES[..], &[("STANDIN_EAGER", "1")]].concat();
    planted("order::whatever_ran_first", &switches, &READ_BEFORE_WRITTEN, read_before_written);
}

#[test]
fn a_copy_writes_what_a_launch_reads() {
    let words = ["kernel add_one (on stream 1 of device 0) reads", "a copy to the device"];
    planted("order::a_copy_writes_what_a_launch_reads", &RACES, &words, |fault| {
        let device = device(0);
        let [x, y] = buffers(&device);
        let (add, taken) = (kernel(&device, "add_one"), device.event(false).unwrap());
        let values = device.pinned::<f32>(64).unwrap();
        add_one(&device.compute, &add, (&x, &y), (0, 64));
        device.compute.record(&taken).unwrap();
        if !fault {
            device.upload.wait_for(&taken).unwrap();
        }
        // SAFETY: `values` live until the device is waited for below.
        unsafe { upload(&device.upload, &values, &x) };
        let _ = device.upload.wait();
        let _ = device.wait();
    });
}

/// Parts of a buffer are as good as buffers; and two that read need no order.
#[test]
fn parts_that_overlap() {
    let words = ["kernel add_one", "writes bytes 124 to 128 of a buffer of 256 bytes"];
    planted("order::parts_that_overlap", &RACES, &words, |fault| {
        let device = device(0);
        let [x, y] = buffers(&device);
        let add = kernel(&device, "add_one");
        add_one(&device.compute, &add, (&x, &y), (0, 32));
        add_one(&device.peer, &add, (&x, &y), (if fault { 31 } else { 32 }, 64));
        let _ = device.wait();
    });
}

/// What the host has waited for, work that it queues later comes after: for an event, a stream,
/// all.
#[test]
fn the_host_waits() {
    let words = ["kernel add_one (on stream 3 of device 0)", "kernel add_one (on stream 1"];
    planted("order::the_host_waits", &RACES, &words, |fault| {
        let device = device(0);
        let [x, y] = buffers(&device);
        let (add, done) = (kernel(&device, "add_one"), device.event(false).unwrap());
        let waits: [&dyn Fn(); 3] =
            [&|| done.wait().unwrap(), &|| device.compute.wait().unwrap(), &|| {
                device.wait().unwrap()
            }];
        for wait in waits {
            add_one(&device.compute, &add, (&x, &y), (0, 64));
            device.compute.record(&done).unwrap();
            if !fault {
                wait();
            }
            add_one(&device.peer, &add, (&y, &x), (0, 64));
            if fault {
                break;
            }
            device.peer.wait().unwrap();
        }
        let _ = device.wait();
    });
}

/// Order goes on from one to the next: the second stream waits for the first, the third for it.
#[test]
fn order_goes_on() {
    let words = ["kernel add_one (on stream 3 of device 0)", "a copy to the device"];
    planted("order::order_goes_on", &RACES, &words, |fault| {
        let device = device(0);
        let [x, y] = buffers(&device);
        let other = device.buffer_of(&[1f32; 64]).unwrap();
        let add = kernel(&device, "add_one");
        let [first, second] = [(); 2].map(|()| device.event(false).unwrap());
        let values = device.pinned::<f32>(64).unwrap();
        // SAFETY: `values` live until the device is waited for below.
        unsafe { upload(&device.upload, &values, &x) };
        device.upload.record(&first).unwrap();
        if fault {
            device.compute.record(&second).unwrap(); // before the wait instead of behind it
        }
        device.compute.wait_for(&first).unwrap();
        if !fault {
            device.compute.record(&second).unwrap();
        }
        device.peer.wait_for(&second).unwrap();
        add_one(&device.peer, &add, (&x, &y), (0, 64));
        add_one(&device.compute, &add, (&x, &other), (0, 64));
        let _ = device.wait();
    });
}

/// The host writes pinned memory anew while its copy has not run.
#[test]
fn the_host_changes_what_a_copy_reads() {
    let words = ["race: the host has changed memory that a copy to the device"];
    planted("order::the_host_changes_what_a_copy_reads", &RACES, &words, |fault| {
        let device = device(0);
        let [x, _] = buffers(&device);
        let mut values = device.pinned::<f32>(64).unwrap();
        // SAFETY: `values` live until the device is waited for below; that they change is the
        // fault.
        unsafe { upload(&device.upload, &values, &x) };
        if !fault {
            device.upload.wait().unwrap();
        }
        values[5] = 7.0;
        let _ = device.wait();
    });
}

/// As above, and the memory is copied once more.
#[test]
fn the_host_changes_it_for_the_next_copy() {
    let words = ["a copy to the device", "a change of memory (by the host)"];
    planted("order::the_host_changes_it_for_the_next_copy", &RACES, &words, |fault| {
        let device = device(0);
        let [x, y] = buffers(&device);
        let mut values = device.pinned::<f32>(64).unwrap();
        for (round, to) in [&x, &y].into_iter().enumerate() {
            values[5] = round as f32;
            // SAFETY: as above.
            unsafe { upload(&device.upload, &values, to) };
            if !fault {
                device.upload.wait().unwrap();
            }
        }
        let _ = device.wait();
    });
}

#[test]
fn a_copy_between_devices_reads_what_a_launch_writes() {
    let words = ["a copy between devices (on stream 3 of device 0) reads", "kernel add_one"];
    planted("order::a_copy_between_devices_reads_what_a_launch_writes", &RACES, &words, |fault| {
        let (first, second) = (Arc::new(device(0)), Arc::new(device(1)));
        let link = Link::open(&first, &second, 256).unwrap();
        let ([x, y], [there, _]) = (buffers(&first), buffers(&second));
        let add = kernel(&first, "add_one");
        let (written, copied) = (first.event(false).unwrap(), link.event().unwrap());
        add_one(&first.compute, &add, (&x, &y), (0, 64));
        first.compute.record(&written).unwrap();
        let after = if fault { vec![] } else { vec![&written] };
        let _ = link.copy(&y, &there, &after, &copied);
        let _ = second.compute.wait_for(&copied);
        let _ = second.wait();
        let _ = first.wait();
    });
}

/// The driver waits for the buffer's own device, not for others that still have to use it.
#[test]
fn memory_is_given_back_that_another_device_uses() {
    let words = ["a buffer of 256 bytes is given back that device 0 still has to use"];
    planted("order::memory_is_given_back_that_another_device_uses", &RACES, &words, |fault| {
        let (first, second) = (Arc::new(device(0)), Arc::new(device(1)));
        let link = Link::open(&first, &second, 256).unwrap();
        let ([x, _], [there, _]) = (buffers(&first), buffers(&second));
        let copied = link.event().unwrap();
        link.copy(&x, &there, &[], &copied).unwrap();
        if !fault {
            copied.wait().unwrap();
        }
        drop(there);
        let _ = first.wait();
    });
}

/// Two copies through the same pinned memory: the second waits until the first has left it.
#[test]
fn what_a_detour_is_staged_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waits.json");
    let switches = [("STANDIN_PEER", "0"), ("STANDIN_WAITS", file.to_str().unwrap())];
    let switches = [&RACES[..], &switches].concat();
    let output = standin::outcome("order::what_a_detour_is_staged_in", &switches, || {
        let (first, second) = (Arc::new(device(0)), Arc::new(device(1)));
        let link = Link::open(&first, &second, 256).unwrap();
        let (from, to) = (buffers(&first), buffers(&second));
        let copied = link.event().unwrap();
        for (from, to) in from.iter().zip(&to) {
            link.copy(from, to, &[], &copied).unwrap();
        }
        copied.wait().unwrap();
        second.wait().unwrap();
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    let waits = |before: &str, behind: &str| {
        let start = format!("{{\"before\":\"{before} (on stream 3 of device ");
        let needed = text.lines().filter(|l| l.starts_with(&start) && l.contains("race: "));
        needed.filter(|line| line.contains(&format!("\"behind\":\"{behind}"))).count()
    };
    assert_eq!(waits("a copy to the device", "a copy to the host"), 2, "{text}");
    assert_eq!(waits("a copy to the host", "a copy to the device"), 1, "{text}");
}
