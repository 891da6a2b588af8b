//! Tables, archives and Parquet files that are damaged, or made to do harm: a sentence, in bounded
//! memory.

use super::*;

/// The program under a limit on its memory.
#[cfg(target_os = "linux")]
fn limited(world: &World, args: &str) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_alexnet");
    let command = format!("ulimit -v 1500000; exec {program} {args}");
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(world.folder.path()).args(["-c", &command]);
    shell.output().unwrap()
}

/// It is used, or refused with a sentence.
#[cfg(target_os = "linux")]
#[track_caller]
fn survives(world: &World, args: &str, what: &str) {
    let output = limited(world, &format!("{args} --out o --size 16 --workers 2"));
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{what}: {code:?}: {}", stderr(&output));
    if code != Some(0) {
        common::sentence(&output);
    }
    let _ = fs::remove_dir_all(world.path("o"));
}

#[cfg(target_os = "linux")]
#[test]
fn parquet_files_with_a_byte_changed_or_cut_are_survived() {
    let world = world();
    for name in ["zstd", "second-version", "deltas"] {
        let bytes = fs::read(made(&format!("parquet/{name}.parquet"))).unwrap();
        let footer = bytes.len() - 1200;
        for step in 0..10 {
            let mut changed = bytes.clone();
            let at = match step % 2 {
                0 => footer + step * 113,
                _ => step * bytes.len() / 10,
            };
            changed[at] = [0xff, 0x7f, 0x80, changed[at] ^ 8][step % 4];
            put(&world, "p.parquet", &changed);
            survives(&world, "prepare parquet p.parquet", &format!("{name}, byte {at}"));
        }
        put(&world, "p.parquet", &bytes[..bytes.len() / 2]);
        let output = limited(&world, "prepare parquet p.parquet --out o");
        assert!(common::sentence(&output).contains("it does not end with PAR1"));
    }
    for (bytes, words) in [
        (&b"PAR1"[..], "no Parquet file"),
        (b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1", "its footer would have 2147483647 bytes"),
        (b"PAR1\0\0\0\0PARE", "encrypted"),
        (b"hello, this is text", "no Parquet file"),
    ] {
        put(&world, "p.parquet", bytes);
        let output = limited(&world, "prepare parquet p.parquet --out o");
        let sentence = common::sentence(&output);
        assert!(sentence.contains("p.parquet") && sentence.contains(words), "{sentence}");
    }
}

/// The header of the first page of the pictures says that it unpacks to 2 GB.
#[cfg(target_os = "linux")]
#[test]
fn a_page_that_speaks_of_gigabytes_takes_no_memory_for_them() {
    let world = world();
    let mut bytes = fs::read(made("parquet/two-pictures.parquet")).unwrap();
    // Compact Thrift: field 1 (i32) 0, field 2 (i32) in some bytes, field 3.
    assert_eq!(&bytes[4..7], [0x15, 4, 0x15], "a dictionary page comes first");
    let end = (7..).find(|&at| bytes[at] < 128).unwrap();
    // 2,147,483,647 in seven bits a byte, zigzag; what follows the column stays where it was.
    bytes.splice(7..=end, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    bytes.drain(100..100 + 5 - (end - 6));
    put(&world, "p.parquet", &bytes);
    let args = "prepare parquet p.parquet --image-column left --out o --size 16 --max-bad 0";
    let output = limited(&world, args);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = world.text("o/skipped.jsonl");
    assert!(text.contains("bytes speaks of 2147483647 unpacked: the file is damaged"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn archives_and_tables_that_do_harm_are_survived() {
    let world = world();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [("../0.png", png(&picture(0, 0))), ("../0.cls", b"1".to_vec())] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    let sound = archive.into_inner().unwrap();
    put(&world, "train.tar", &sound);
    survives(&world, "prepare webdataset train.tar", "names outside");
    assert!(!world.path("../0.png").exists());
    for at in [124, 125, 130, 148, 156, 200, 512, 1024 + 124] {
        for value in [0, 0x30, 0x37, 0x80, 0xff] {
            let mut changed = sound.clone();
            changed[at] = value;
            put(&world, "train.tar", &changed);
            survives(&world, "prepare webdataset train.tar", &format!("byte {at} is {value}"));
        }
    }
    let json = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (name, text) in [
        ("open.csv", format!("a.png,\"owl\n{}", "x,y\n".repeat(100_000))),
        ("wide.csv", ",".repeat(1_000_000)),
        ("long.csv", format!("{},owl", "a".repeat(1_000_000))),
        ("quotes.csv", "\"".repeat(1_000_001)),
        ("nul.csv", "a.png,\0".into()),
        ("deep.csv", json),
    ] {
        world.write(name, &text);
        survives(&world, &format!("prepare list {name}"), name);
    }
}
