//! Pickles that would do something, or be endless: nothing is called, and what is wrong is said.

use crate::{data, world};
use alexnet::errors::sentence;
use alexnet::weights::{Source, of};
use std::fs;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file of torch.save with this pickle and some storages.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("x/{name}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    };
    add("data.pkl", pickle);
    for (name, bytes) in storages {
        add(&format!("data/{name}"), bytes);
    }
    zip.finish().unwrap().into_inner()
}

/// What is said of `bytes`.
#[track_caller]
fn refused(bytes: Vec<u8>) -> String {
    sentence(&of(&Source::memory(bytes), None).expect_err("it is not to be read"))
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// The instructions of a tensor: a persistent id and `_rebuild_tensor_v2` of it.
fn tensor(kind: &str, key: &str, count: i32, first: i32, shape: &[i32], steps: &[i32]) -> Vec<u8> {
    let int = |n: i32| [&b"J"[..], &n.to_le_bytes()].concat();
    let list = |all: &[i32]| {
        [&b"("[..], &all.iter().flat_map(|&n| int(n)).collect::<Vec<_>>(), b"t"].concat()
    };
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        format!("ctorch\n{kind}\n").as_bytes(),
        &text(key),
        &text("cpu"),
        &int(count),
        b"tQ",
        &int(first),
        &list(shape),
        &list(steps),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A dictionary of tensors by name.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> =
        items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [&b"\x80\x02}("[..], &items, b"u."].concat()
}

#[test]
fn what_a_pickle_would_call_is_named_and_not_called() {
    let world = world();
    let mark = world.path("called");
    let touch = format!("touch {}", mark.display());
    let calls: [(Vec<u8>, &str); 6] = [
        ([&b"\x80\x02cposix\nsystem\n"[..], &text(&touch), b"\x85R."].concat(), "posix.system"),
        ([&b"\x80\x02cbuiltins\neval\n"[..], &text("1"), b"\x85R."].concat(), "builtins.eval"),
        (
            [&b"\x80\x04"[..], &text("os"), &text("system"), b"\x93", &text(&touch), b"\x85R."]
                .concat(),
            "os.system",
        ),
        (
            b"\x80\x02ctorchvision.models.alexnet\nAlexNet\n)\x81.".to_vec(),
            "torchvision.models.alexnet.AlexNet",
        ),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.".to_vec(), "torch.storage._load_from_bytes"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.".to_vec(), "an object of a class"),
    ];
    for (pickle, name) in calls {
        for bytes in [archive(&pickle, &[]), pickle] {
            fs::write(world.path("x.pth"), bytes).unwrap();
            world.fails(
                "import x.pth --out y.safetensors",
                1,
                &["x.pth", name, "torch.save(model.state_dict()"],
            );
        }
    }
    assert!(!mark.exists());
}

#[test]
fn values_without_end_end() {
    let deep = [&b"\x80\x02)"[..], &[0x85].repeat(3_000_000), b"."].concat();
    let wide = [&b"\x80\x02("[..], &b"K\x01".repeat(3_000_000), b"t."].concat();
    let high = [&b"\x80\x02Nq\0"[..], &b"h\0".repeat(3_000_000), b"."].concat();
    // Each `OrderedDict(list)` would have as many entries as the list.
    let pair = b"K\x01K\x02\x86";
    let long = [&b"]q\0("[..], &pair.repeat(50_000), b"e"].concat();
    let copies =
        [&b"\x80\x02"[..], &long, &b"ccollections\nOrderedDict\nh\0\x85R".repeat(1000), b"."]
            .concat();
    let large = [&b"\x80\x02"[..], &vec![b'N'; 17 << 20]].concat();
    for (pickle, words) in [
        (deep, "values"),
        (wide, "values"),
        (high, "stack is too high"),
        (copies, "values"),
        (large, "values"),
        (b"\x80\x02]q\0h\0ah\0a.".to_vec(), "no dictionary of tensors"),
        (b"\x80\x02}q\0X\x01\0\0\0ah\0sX\x01\0\0\0ah\0s.".to_vec(), "no tensors"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.".to_vec(), "text of"),
        (b"\x80\x02X\xff\xff\xff\xffabc.".to_vec(), "text of"),
        (b"\x80\x02h\x07.".to_vec(), "memo 7 is empty"),
        (b"\x80\x02t.".to_vec(), "no mark"),
        (b"\x80\x02R.".to_vec(), "nothing is on its stack"),
        (b"\x80\x02.".to_vec(), "nothing is on its stack"),
        (b"\x80\x02(K\x01K\x02K\x03d.".to_vec(), "a key without a value"),
        (b"\x80\x02K\x01K\x02a.".to_vec(), "no list"),
        (b"\x80\x02K\x01}b.".to_vec(), "attributes"),
        (b"\x80\x02V".to_vec(), "0x56"),
        (b"\x80\x02".to_vec(), "cut short"),
        (b"\x80\x09N.".to_vec(), "protocol 9"),
    ] {
        let said = refused(archive(&pickle, &[]));
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
}

#[test]
fn tensors_that_are_not_there_are_refused() {
    let read = |kind: &str, count: i32, first: i32, shape: &[i32], steps: &[i32]| {
        let pickle = dict(&[("a.weight", tensor(kind, "0", count, first, shape, steps))]);
        of(&Source::memory(archive(&pickle, &[("0", &[0; 24])])), None)
    };
    let whole = read("FloatStorage", 6, 0, &[2, 3], &[3, 1]).unwrap();
    assert_eq!(whole.tensors[0].numbers.shape(), [2, 3]);
    // A transposed view, as `.t()` is saved.
    assert_eq!(read("FloatStorage", 6, 0, &[3, 2], &[1, 3]).unwrap().tensors[0].numbers.len(), 6);
    for (kind, count, first, shape, steps) in [
        ("FloatStorage", 7, 0, &[7][..], &[1][..]),
        ("FloatStorage", i32::MAX, 0, &[2], &[1]),
        ("FloatStorage", -1, 0, &[2], &[1]),
        ("DoubleStorage", 6, 0, &[2], &[1]),
        ("FloatStorage", 6, 5, &[2], &[1]),
        ("FloatStorage", 6, -1, &[2], &[1]),
        ("FloatStorage", 6, 0, &[-2], &[1]),
        ("FloatStorage", 6, 0, &[2], &[-1]),
        // One number for billions.
        ("FloatStorage", 6, 0, &[i32::MAX, i32::MAX], &[0, 0]),
        ("FloatStorage", 6, 0, &[i32::MAX; 9], &[i32::MAX; 9]),
        ("FloatStorage", 6, 0, &[2, 3], &[1]),
        ("LongStorage", 3, 0, &[3], &[1]),
        ("ComplexFloatStorage", 3, 0, &[3], &[1]),
    ] {
        let said = sentence(&read(kind, count, first, shape, steps).unwrap_err());
        assert!(!said.is_empty(), "{kind} {count} {first} {shape:?} {steps:?}");
    }
    let missing = dict(&[("a.weight", tensor("FloatStorage", "7", 6, 0, &[6], &[1]))]);
    assert!(refused(archive(&missing, &[("0", &[0; 24])])).contains("data/7"));
    let one = tensor("FloatStorage", "0", 6, 0, &[6], &[1]);
    let twice = dict(&[("a.weight", one.clone()), ("a.weight", one)]);
    assert!(refused(archive(&twice, &[("0", &[0; 24])])).contains("a.weight is there twice"));
}

#[test]
fn archives_that_are_not_pytorchs_are_refused() {
    let pickle = dict(&[("a.weight", tensor("FloatStorage", "0", 6, 0, &[6], &[1]))]);
    let good = archive(&pickle, &[("0", &[0; 24]), ("1", &[0; 24])]);
    of(&Source::memory(good.clone()), None).unwrap();
    let change = |from: &[u8], to: &[u8]| {
        let mut bytes = good.clone();
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
        bytes
    };
    let twice = refused(change(b"x/data/1", b"x/data/0"));
    assert!(twice.contains("twice") || twice.contains("duplicate"), "{twice}");
    assert!(refused(change(b"x/data.pkl", b"x/date.pkl")).contains("no data.pkl"));
    let said = refused(change(b"a.weight", b"b.weight"));
    assert!(said.contains("damaged, its checksum is wrong"), "{said}");
    // As many entries as no file has, in an end of zip64's form.
    let mut many = good[..good.len() - 22].to_vec();
    let long = many.len() as u64;
    many.extend([&b"PK\x06\x06"[..], &[0; 20]].concat());
    many.extend([u64::MAX >> 1, u64::MAX >> 1, 46, 0].map(u64::to_le_bytes).concat());
    many.extend([&b"PK\x06\x07\0\0\0\0"[..], &long.to_le_bytes(), &[0; 4]].concat());
    many.extend(&good[good.len() - 22..]);
    assert!(refused(many).contains("more than 32768 entries"));
    // A packed entry could be any size: method 8 in both of its headers.
    let mut packed = good.clone();
    for (mark, at) in [(&b"PK\x03\x04"[..], 8), (b"PK\x01\x02", 10)] {
        let start = packed.windows(4).position(|w| w == mark).unwrap();
        packed[start + at] = 8;
    }
    assert!(refused(packed).contains("packed"));
    let code = archive(&pickle, &[]);
    let mut zip = ZipWriter::new_append(Cursor::new(code)).unwrap();
    zip.start_file(
        "x/code/net.py",
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
    )
    .unwrap();
    assert!(refused(zip.finish().unwrap().into_inner()).contains("TorchScript"));
    let mut zip = ZipWriter::new_append(Cursor::new(good.clone())).unwrap();
    zip.start_file(
        "x/byteorder",
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
    )
    .unwrap();
    zip.write_all(b"big").unwrap();
    assert!(refused(zip.finish().unwrap().into_inner()).contains("highest byte"));
}

/// The older form: pickles one after the other, then the numbers.
#[test]
fn damaged_files_of_the_older_form_are_refused() {
    let good = fs::read(data("torch-legacy.pth")).unwrap();
    let change = |from: &[u8], to: &[u8]| {
        let mut bytes = good.clone();
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        refused(bytes)
    };
    assert!(
        change(b"classifier.6.bias", b"classifier.4.bias")
            .contains("classifier.4.bias is there twice")
    );
    assert!(change(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xe8\x03.").contains("not known"));
    assert!(change(b"little_endianq\x02\x88", b"little_endianq\x02\x89").contains("highest byte"));
    assert!(refused([&good[..], b"x"].concat()).contains("1 bytes follow"));
    assert!(change(b"FloatStorage", b"FloatStorbge").contains("torch.FloatStorbge"));
}
