//! Web data sets.

use super::*;

/// A tar archive of `files`, as GNU tar writes it.
fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The samples `from..to` of an archive: KEY.png and what `label` makes of a number.
fn samples(from: u32, to: u32, label: impl Fn(u32) -> (&'static str, String)) -> Vec<u8> {
    let mut files = Vec::new();
    for i in from..to {
        let (ending, text) = label(i);
        // Either may come first.
        files.push((format!("a.b/{i:04}.png"), png(&picture(i % 3, i))));
        files.insert(files.len() - (i % 2) as usize, (format!("a.b/{i:04}.{ending}"), text.into()));
        files.push((format!("a.b/{i:04}.txt"), b"a caption".to_vec()));
    }
    tar_of(&files)
}

fn number(i: u32) -> (&'static str, String) {
    ("cls", format!("{}\n", i % 3))
}

/// Each image is the picture of its number, under the class that `class` says.
fn check(images: &[Seen], class: impl Fn(u32) -> &'static str) {
    for Seen { class: found, name, pixels } in images {
        let key = &name[name.len() - "0000.png".len()..];
        let number: u32 = key.trim_end_matches(".png").parse().unwrap();
        assert_eq!(found, class(number), "{name}");
        assert!(*pixels == picture(number % 3, number).into_raw(), "{name}");
    }
}

#[test]
fn archives_of_samples_are_a_data_set() {
    let world = world();
    for shard in 0..3 {
        put(
            &world,
            &format!("w/set-train-{shard:03}.tar"),
            &samples(10 * shard, 10 * shard + 10, number),
        );
    }
    put(&world, "w/set-validation-000.tar", &samples(30, 36, number));
    world.ok("prepare webdataset w --out set --size 16");
    assert_eq!(classes(&world, "set"), "0 1 2");
    let (train, val) = (images(&world, "set", "train"), images(&world, "set", "val"));
    assert_eq!((train.len(), val.len()), (30, 6));
    assert_eq!(train[11].name, "set-train-001.tar/a.b/0011.png");
    check(&train, |i| ["0", "1", "2"][i as usize % 3]);
    check(&val, |i| ["0", "1", "2"][i as usize % 3]);

    // A pattern, names for the numbers, and the same bytes.
    let mut pattern = world.command("prepare webdataset --out named --size 16 --classes x,owl,eel");
    pattern.arg("w/set-train-{000..001}.tar");
    assert!(pattern.output().unwrap().status.success());
    assert_eq!(classes(&world, "named"), "x owl eel");
    let both = [images(&world, "named", "train"), images(&world, "named", "val")].concat();
    assert_eq!(both.len(), 20);
    check(&both, |i| ["x", "owl", "eel"][i as usize % 3]);
    // A number stays one where names are numbers too; of two classes of one name each is its own.
    for (names, ids) in
        [("2,1,0", ["2", "1", "0"]), ("crane,owl,crane", ["crane (0)", "owl", "crane (2)"])]
    {
        let set = names.replace(',', "-");
        world.ok(&format!("prepare webdataset w --out {set} --size 16 --classes {names}"));
        assert_eq!(classes(&world, &set), ids.join(" "));
        check(&images(&world, &set, "train"), |i| ids[i as usize % 3]);
    }
    let words = ["train-003.tar is not there", "nor are 6 more"];
    let mut missing = world.command("prepare webdataset --out o --size 16");
    let output = missing.arg("w/set-train-{002..009}.tar").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words.iter().all(|word| stderr(&output).contains(word)), "{}", stderr(&output));
}

#[test]
fn labels_may_be_entries_of_json() {
    let world = world();
    let names = ["owl", "eel", "fox"];
    let json =
        |i: u32| ("json", format!("{{\"id\": {i}, \"label\": \"{}\"}}", names[i as usize % 3]));
    put(&world, "train.tar", &samples(0, 12, json));
    put(&world, "kind.tar", &samples(0, 12, |i| ("json", format!("{{\"kind\": {}}}", i % 3))));
    world.ok("prepare webdataset train.tar --out set --size 16 --val-fraction 0");
    assert_eq!(classes(&world, "set"), "eel fox owl");
    check(&images(&world, "set", "train"), |i| names[i as usize % 3]);
    let words = ["kind.tar has no images with labels", "label, cls, class", "--label-key"];
    world.fails("prepare webdataset kind.tar --out o --size 16", 2, &words);
    world.ok("prepare webdataset kind.tar --out o --size 16 --val-fraction 0 --label-key kind");
    check(&images(&world, "o", "train"), |i| ["0", "1", "2"][i as usize % 3]);
}

#[test]
fn what_is_no_sample_is_left_out_or_refused() {
    let world = world();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..6 {
        files.push((format!("{i:04}.png"), png(&picture(i % 3, i))));
        files.push((format!("{i:04}.cls"), (i % 3).to_string().into_bytes()));
    }
    files.push(("0006.png".into(), png(&picture(0, 6))));
    files.push(("0007.png".into(), png(&picture(0, 7))));
    files.push(("0007.cls".into(), b"-1".to_vec()));
    files.push(("0008.cls".into(), b"1".to_vec()));
    files.push(("._0009.png".into(), b"x".to_vec()));
    put(&world, "w/train.tar", &tar_of(&files));
    let output = world.run("prepare webdataset w --out set --size 16 --val-fraction 0");
    assert!(output.status.success());
    assert_eq!(names(&world, "set", "train").len(), 6);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("2 images without a label were left out"), "{out}");
    assert!(stderr(&output).contains("0006.png the first of them: it has no .cls or .json"));
    assert_eq!(skipped(&world, "set")[1]["file"], "train.tar/0007.png");

    let out_of_range = "prepare webdataset w --out o --size 16 --classes owl,eel";
    world.fails(out_of_range, 1, &["train.tar/0002.png", "label 2 is none of the 2 classes"]);
    put(&world, "w/more.tar", &tar_of(&files));
    let words = ["train.tar says which split", "more.tar does not"];
    world.fails("prepare webdataset w --out o --size 16", 2, &words);
    files.push(("0001.jpg".into(), b"x".to_vec()));
    put(&world, "two.tar", &tar_of(&files));
    world.fails("prepare webdataset two.tar --out o", 2, &["0001.png and 0001.jpg", "one sample"]);
    put(&world, "z/train.tar.gz", b"\x1f\x8b");
    world.fails("prepare webdataset z --out o", 2, &["train.tar.gz is compressed", "gunzip"]);
    put(&world, "cut/train.tar", &tar_of(&files)[..5000]);
    world.fails("prepare webdataset cut --out o", 1, &["train.tar", "cut short"]);
}
