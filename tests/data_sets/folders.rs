//! What people's folders hold beside pictures.

use super::*;
use common::stderr;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

fn link(world: &World, to: &str, name: &str) {
    symlink(to, world.path(name)).unwrap();
}

/// All images of a data set that is made from `s`, and what was said.
fn made(world: &World, set: &str) -> (u64, String) {
    let output = world.run(&format!("prepare image-folder s --out {set} --size 16"));
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    (["train", "val", "test"].iter().map(|split| images(world, set, split)).sum(), text)
}

#[test]
fn each_folder_is_taken_once_however_it_is_reached() {
    let plain = world();
    two_classes(&plain, "s");
    assert_eq!(made(&plain, "d").0, 6);
    for links in [
        vec![(".", "s/cat/again")],
        vec![(".", "s/cat/again"), (".", "s/cat/more"), (".", "s/dog/more")],
        vec![("..", "s/cat/up"), ("../..", "s/dog/up"), ("/", "s/dog/root")],
        vec![("../dog", "s/cat/a"), ("../cat", "s/dog/b")],
        vec![("cat", "s/ape"), ("dog", "s/zebra")],
        vec![("loop", "s/loop"), (".", "s/self")],
        vec![("../dog/a/b", "s/cat/a"), ("../../../cat", "s/dog/a/b/c")],
    ] {
        let world = world();
        two_classes(&world, "s");
        fs::create_dir_all(world.path("s/dog/a/b")).unwrap();
        links.iter().for_each(|(to, name)| link(&world, to, name));
        assert_eq!(made(&world, "d").0, 6, "{links:?}");
        assert_eq!(classes(&world, "d"), "cat dog", "{links:?}");
        let (with, without) = (contents(&world, "d"), contents(&plain, "d"));
        assert!(with == without, "{links:?}: each picture is of its own folder's class");
    }
}

#[test]
fn links_to_folders_elsewhere_are_followed_once() {
    let world = world();
    two_classes(&world, "s");
    pictures(&world, "more/cats", 2, 4);
    pictures(&world, "owls", 2, 5);
    link(&world, "../../more", "s/cat/more");
    link(&world, "../../more/cats", "s/dog/cats");
    link(&world, "../owls", "s/owl");
    link(&world, "../cat/0000.png", "s/dog/link.png");
    let (images, text) = made(&world, "d");
    assert_eq!(images, 6 + 4 + 5 + 1, "a link to a file is a file");
    assert_eq!(classes(&world, "d"), "cat dog owl");
    assert!(text.contains("there are 1, s/dog/cats the first"), "{text}");
    // Folders that are reached by a link are a part of the source, too.
    world.fails("prepare image-folder s --out owls/set", 2, &["lies inside of the source"]);
}

#[test]
fn the_same_split_twice_is_taken_once() {
    let world = world();
    two_classes(&world, "s/train");
    link(&world, "train", "s/val");
    let (_, text) = made(&world, "d");
    assert!(text.contains("s/val/cat the first"), "{text}");
    assert_eq!((images(&world, "d", "train"), images(&world, "d", "val")), (4, 2), "carved");
}

#[test]
fn pipes_sockets_and_devices_are_left_out_with_a_reason() {
    let world = world();
    two_classes(&world, "s");
    let made_pipe = std::process::Command::new("mkfifo").arg(world.path("s/cat/pipe")).status();
    assert!(made_pipe.unwrap().success());
    let _socket = UnixListener::bind(world.path("s/dog/socket")).unwrap();
    link(&world, "/dev/zero", "s/dog/zero.png");
    let (images, text) = made(&world, "d");
    assert_eq!(images, 6);
    assert!(text.contains("cat/pipe is left out: this is a pipe, no file (and 2 more)"), "{text}");
    let skipped = world.text("d/skipped.jsonl");
    for words in ["cat/pipe", "a pipe", "dog/socket", "a socket", "dog/zero.png", "a device"] {
        assert!(skipped.contains(words), "{words}: {skipped}");
    }
}

#[test]
fn deep_folders_and_thousands_of_files_are_all_taken() {
    let world = world();
    two_classes(&world, "s");
    pictures(&world, &format!("s/cat/{}", vec!["x"; 60].join("/")), 2, 2);
    let picture = fs::read(world.path("s/dog/0000.png")).unwrap();
    for i in 0..2000 {
        fs::write(world.path(&format!("s/dog/many-{i}.png")), &picture).unwrap();
    }
    assert_eq!(made(&world, "d").0, 6 + 2 + 2000);
}

#[test]
fn names_of_any_encoding_are_taken() {
    let world = world();
    let cafe = OsStr::from_bytes(b"caf\xe9");
    let src: PathBuf = world.path("").join(cafe);
    two_classes(&world, "s");
    fs::rename(world.path("s"), &src).unwrap();
    fs::rename(src.join("dog"), src.join(OsStr::from_bytes(b"chien \xe9"))).unwrap();
    fs::rename(src.join("cat/0000.png"), src.join("cat").join(cafe)).unwrap();
    let prepare = |out: PathBuf| {
        let mut command = world.command("prepare image-folder --size 16");
        let output = command.arg(&src).arg("--out").arg(out).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    prepare(world.path("d"));
    assert_eq!(classes(&world, "d"), "cat chien \u{fffd}");
    assert_eq!(images(&world, "d", "train") + images(&world, "d", "val"), 6);

    // A config is UTF-8, so such a path cannot be kept in it; a relative one within can.
    let out = world.path("").join(OsStr::from_bytes(b"\xe9t\xe9"));
    prepare(out.join("set"));
    world.write("net.toml", common::LINEAR);
    let run = |folder: PathBuf, data: &OsStr, run: &str| {
        let args =
            format!("train --config {} --set train.epochs=1", world.path("net.toml").display());
        let mut command = world.command(&args);
        command.current_dir(folder).arg("--data").arg(data).arg("--run").arg(world.path(run));
        command.output().unwrap()
    };
    let refused = run(world.path(""), out.join("set").as_os_str(), "r");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(common::sentence(&refused).contains("is no UTF-8"), "{}", stderr(&refused));
    let taken = run(out, OsStr::new("set"), "r");
    assert!(taken.status.success(), "{}", stderr(&taken));
}

#[test]
fn out_inside_of_the_source_is_found_by_real_paths() {
    let world = world();
    two_classes(&world, "s");
    link(&world, "s", "alias");
    fs::create_dir(world.path("x")).unwrap();
    let s = world.path("s").canonicalize().unwrap();
    for (src, out) in [
        ("s", "s/d"),
        ("s", "alias/d"),
        ("alias", "s/d"),
        ("s", "x/../s/new/d"),
        ("./s/.", "s/cat/d"),
        ("s", "s"),
        (s.to_str().unwrap(), "s/d"),
    ] {
        world.fails(
            &format!("prepare image-folder {src} --out {out}"),
            2,
            &["lies inside of the source"],
        );
    }
    let mut inside = world.command("prepare image-folder . --out d");
    let output = inside.current_dir(&s).output().unwrap();
    assert!(common::sentence(&output).contains("lies inside of the source"));
    assert_eq!(world.names("s"), ["cat", "dog"]);
    world.ok("prepare image-folder s --out s-prepared --size 16");
}

/// Memory is another file system than the disk, mostly.
#[test]
fn a_data_set_goes_to_another_file_system() {
    let Ok(out) = tempfile::tempdir_in("/dev/shm") else { return };
    let world = world();
    two_classes(&world, "s");
    world.ok(&format!("prepare image-folder s --out {} --size 16", out.path().display()));
    world.ok("prepare image-folder s --out d --size 16");
    link(&world, out.path().to_str().unwrap(), "there");
    assert!(contents(&world, "there") == contents(&world, "d"));
}
