//! The same on the stand-in for GPUs (`tests/standin`) as on the CPU: several networks, features of
//! layers on two devices, an auto-encoder's training.

use super::*;

/// Two networks of other crops on a device each, and one network on two.
#[test]
fn an_average_and_features_on_devices_are_the_cpus() {
    let Some(environment) = standin::world() else { return };
    let world = world();
    let on = |args: &str, device: &str| -> String {
        let mut command = world.command(&format!("{args} --device {device}"));
        let output = command.envs(environment.iter().cloned()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args}: {}", common::stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let two = if standin::on_gpu() { "cuda:0,0" } else { "cuda:0,1" };
    let eval = "eval a b c --split test --json";
    for device in ["cuda:0", two] {
        let [cpu, gpu] = ["cpu", device].map(|device| on(eval, device));
        let [cpu, gpu]: [Value; 2] = [cpu, gpu].map(|text| serde_json::from_str(&text).unwrap());
        near(printed(&cpu), printed(&gpu));
        for member in 0..3 {
            near(printed(&cpu["members"][member]), printed(&gpu["members"][member]));
        }
    }
    for layer in ["relu3", "relu2", "pool1"] {
        let of = |device: &str, file: &str| {
            let args = format!("features --checkpoint a --split val --layer {layer} --out {file}");
            on(&args, device);
            floats(&world, file, "features")
        };
        let (cpu, gpu) = (of("cpu", "on-cpu.safetensors"), of(two, "on-gpu.safetensors"));
        assert_eq!(cpu.0, gpu.0);
        let largest = cpu.1.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let apart = cpu.1.iter().zip(&gpu.1).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(largest > 0.0 && apart < 1e-5 * largest, "{layer}: {apart} of {largest}");
    }
    // Few enough steps that rounding has not grown.
    let codes = |device: &str, file: &str| -> Value {
        let args = "codes on-cpu.safetensors --bits 8 --hidden 16 --epochs 2 --json --out";
        serde_json::from_str(&on(&format!("{args} {file}"), device)).unwrap()
    };
    let (cpu, gpu) =
        (codes("cpu", "cpu-codes.safetensors"), codes("cuda:0", "gpu-codes.safetensors"));
    let explained = |said: &Value| said["explained"].as_f64().unwrap();
    assert!((explained(&cpu) - explained(&gpu)).abs() < 1e-4, "{cpu}, {gpu}");
    for name in ["encode1.weight", "code.bias", "decode3.weight", "decode4.weight", "decode4.bias"]
    {
        let [cpu, gpu] =
            ["cpu", "gpu"].map(|on| floats(&world, &format!("{on}-codes.safetensors"), name).1);
        let largest = cpu.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let apart = cpu.iter().zip(&gpu).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(largest > 0.0 && apart < 1e-4 * largest, "{name}: {apart} of {largest}");
    }
}
