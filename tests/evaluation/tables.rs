//! Errors by class, the confusion matrix and the table of predictions: against one another, and
//! against the whole.

use super::*;

/// A CSV file's header and rows.
fn csv_file(world: &World, file: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_path(world.path(file)).unwrap();
    let list = |record: &csv::StringRecord| record.iter().map(String::from).collect();
    let header = list(reader.headers().unwrap());
    (header, reader.records().map(|record| list(&record.unwrap())).collect())
}

#[test]
fn classes_add_up_to_the_whole() {
    let world = world();
    let all = world.json("eval a b --split test --json --per-class");
    let classes = all["per_class"].as_array().unwrap();
    let ids: Vec<&str> = classes.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, CLASSES);
    assert_eq!(classes[2]["name"], "cat,tom");
    assert!(classes.iter().all(|class| class["images"] == 10));
    for key in ["top1_error", "top5_error"] {
        let sum: f64 = classes.iter().map(|class| class[key].as_f64().unwrap()).sum();
        let whole = all[key].as_f64().unwrap();
        assert!((sum / 7.0 - whole).abs() < 1e-12 && whole > 0.0, "{key}: {sum}, {whole}");
    }
    // One by one, from the average of the members' probabilities.
    let members = ["a", "b"].map(|run| probabilities(&world, run, "test", ""));
    let average = averaged(&members, &[0.5, 0.5]);
    for (class, printed) in classes.iter().enumerate() {
        let wrong = (10 * class..10 * class + 10)
            .filter(|&i| average[i].iter().any(|p| *p > average[i][class]))
            .count();
        assert_eq!(printed["top1_error"].as_f64().unwrap(), wrong as f64 / 10.0, "{class}");
    }
    let text = world.ok("eval a b --split test --per-class");
    let rows = text.lines().skip_while(|line| !line.contains("by class")).skip(2);
    let errors: Vec<f64> =
        rows.map(|row| row.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert!(errors.len() == 7 && errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
}

#[test]
fn the_confusion_matrix_and_the_predictions_are_of_one_evaluation() {
    let world = world();
    let all = world.json("eval a --split test --json --confusion m.csv --predictions p.csv");
    let (header, rows) = csv_file(&world, "m.csv");
    assert_eq!(header[1..], CLASSES);
    assert_eq!(rows.len(), 7);
    let (columns, answers) = csv_file(&world, "p.csv");
    let start = ["file", "label", "label_name", "id1", "name1", "probability1", "id2"];
    assert_eq!((&columns[..7], columns.len()), (&start.map(String::from)[..], 18));
    assert_eq!(answers.len(), 70);
    let mut right = 0;
    for (row, name) in rows.iter().zip(CLASSES) {
        assert_eq!(row[0], name);
        let counts: Vec<u64> = row[1..].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 10, "{row:?}");
        for (predicted, count) in CLASSES.iter().zip(&counts) {
            let same = |a: &&Vec<String>| a[1] == name && a[3] == *predicted;
            assert_eq!(answers.iter().filter(same).count() as u64, *count, "{name}, {predicted}");
        }
        right += counts[CLASSES.iter().position(|c| *c == name).unwrap()];
    }
    assert_eq!(1.0 - right as f64 / 70.0, all["top1_error"].as_f64().unwrap());
}

#[test]
fn predictions_are_those_of_predict() {
    let world = world();
    world.ok("eval c --split test --predictions c.csv");
    assert!(
        world.text("c.csv").contains("\"cat,tom\"") && world.text("c.csv").contains("fox\"\"red")
    );
    let (_, rows) = csv_file(&world, "c.csv");
    let all = probabilities(&world, "c", "test", "");
    for (i, (row, p)) in rows.iter().zip(&all).enumerate() {
        assert_eq!(format!("photos/{}", row[0]), images("test")[i]);
        assert_eq!((&*row[1], &*row[2]), (CLASSES[label("test", i)], CLASSES[label("test", i)]));
        let mut order: Vec<usize> = (0..7).collect();
        order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
        for (n, class) in order.into_iter().take(5).enumerate() {
            assert_eq!(row[3 + 3 * n], CLASSES[class], "{row:?}, {p:?}");
            let printed: f64 = row[5 + 3 * n].parse().unwrap();
            assert!((printed - p[class]).abs() < 1e-5, "{row:?}, {p:?}");
        }
    }
}

#[test]
fn the_confusion_matrix_as_a_picture() {
    let world = world();
    world.ok("eval a --split test --confusion m.png");
    let picture = image::open(world.path("m.png")).unwrap().to_rgb8();
    assert!(picture.width() > 400 && picture.height() > 400, "{:?}", picture.dimensions());
    let blue = picture.pixels().filter(|p| p.0[2] > p.0[0].saturating_add(40)).count();
    assert!(blue > 7 * 500, "{blue} bluish pixels: a diagonal at least");
}

#[test]
fn places_that_cannot_be_written_are_refused_before_the_work() {
    let world = world();
    world.fails("eval a --confusion m.txt", 2, &["m.txt", ".png", ".csv"]);
    world.fails("eval a --predictions none/p.csv", 2, &["none/p.csv", "no folder none"]);
    world.fails("eval a --predictions a", 2, &["--predictions a", "folder"]);
    let before = world.bytes("a/best.safetensors");
    world.fails("eval a --predictions a/../a/best.safetensors", 2, &["best.safetensors", "reads"]);
    assert_eq!(before, world.bytes("a/best.safetensors"));
}
