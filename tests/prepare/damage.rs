//! Damage to a data set after it was made.

use super::*;
use alexnet::commands::data;
use alexnet::data::dataset::Dataset;

#[test]
fn a_damaged_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), "image-folder @src --out @out --size 16 --val-fraction 0").unwrap();
    let shard = folder.path().join("out/train-00000.shard");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 5 * 768 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let train = data.split("train").unwrap();
    train.read(4, &mut [0; 768]).unwrap();
    let error = errors::sentence(&train.read(5, &mut [0; 768]).unwrap_err());
    assert!(error.contains("record 5 (from Eel/05.JPEG)"), "{error}");
    assert!(error.contains("train-00000.shard is damaged"), "{error}");

    #[derive(Parser)]
    struct Data {
        #[command(flatten)]
        args: data::Args,
    }
    let verify = || {
        let out = folder.path().join("out");
        let words = ["data".as_ref(), "verify".as_ref(), out.as_os_str()];
        data::run(Data::try_parse_from(words).unwrap().args)
    };
    let error = errors::sentence(&verify().unwrap_err());
    assert!(error.contains("1 of 30 records"), "{error}");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 5 * 768 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    verify().unwrap();
}

#[test]
fn a_contact_sheet_is_a_png_of_the_split() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), "image-folder @src --out @out --size 32").unwrap();
    #[derive(Parser)]
    struct Data {
        #[command(flatten)]
        args: data::Args,
    }
    let show = |more: &str| {
        let at = format!("{}/", folder.path().display());
        let line = format!("data show @out --out @sheet.png {more}").replace('@', &at);
        data::run(Data::try_parse_from(line.split_whitespace()).unwrap().args)
    };
    show("--count 12 --seed 3").unwrap();
    let first = fs::read(folder.path().join("sheet.png")).unwrap();
    let sheet = image::load_from_memory(&first).unwrap();
    // Crops of 28 pixels, four times as large, 11 in a row.
    assert_eq!((sheet.width(), sheet.height()), (11 * 120 + 8, 2 * 136 + 8));
    show("--count 12 --seed 3").unwrap();
    assert!(fs::read(folder.path().join("sheet.png")).unwrap() == first, "same seed, same sheet");
    let code = |more| errors::exit_code(&show(more).unwrap_err());
    assert_eq!([code("--crop 33"), code("--split nothing")], [2, 2]);
}
