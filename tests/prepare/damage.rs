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
