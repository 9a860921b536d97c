use super::*;

fn result(name: &str, cold: [f64; 3], warm: Option<[f64; 3]>) -> ToolResult {
    let some = |values: [f64; 3]| values.map(Some).to_vec();
    let samples = Samples {
        cold: some(cold),
        warm: warm.map_or_else(|| vec![None; 3], some),
        peak_kib: 6 << 10,
        failure: None,
    };
    ToolResult { name: name.into(), command: format!("run {name}"), samples }
}

fn comparison() -> Comparison {
    Comparison {
        title: "Copying ext4 to ext4".into(),
        description: "The target is created with `mke2fs DEVICE`.".into(),
        baseline: "cp -a".into(),
        results: vec![
            result("cp -a", [8.0, 10.0, 9.0], Some([4.0, 4.0, 4.0])),
            result("dd", [2.0, 2.0, 3.0], None),
        ],
        missing: vec![MissingTool { name: "xcp -r".into(), reason: "not built".into() }],
    }
}

#[test]
fn a_table_is_ranked_and_its_ratios_are_taken_within_rounds() {
    let mut text = String::new();
    table(&mut text, &comparison());
    let expected = "
## Copying ext4 to ext4

The target is created with `mke2fs DEVICE`.

| | cold | to `cp -a` | warm | to `cp -a` | memory |
| --- | ---: | ---: | ---: | ---: | ---: |
| dd | 2.00 s | **0.25** (0.20–0.33) |  |  | 6 MiB |
| cp -a | 9.00 s | **1.00** (1.00–1.00) | 4.00 s | **1.00** (1.00–1.00) | 6 MiB |

Not measured: xcp -r: not built.

```
# cp -a
run cp -a
# dd
run dd
```
";
    assert_eq!(text, expected);
}

#[test]
fn missed_limits_and_unmeasured_figures_are_shown() {
    let figures = vec![
        Figure::ratio("files, cold", Some(0.61), 0.5),
        Figure::ratio("blocks", None, 0.35),
        Figure { name: "memory".into(), value: Some(20.0), unit: "MiB", limit: Some(64.0) },
    ];
    let text = render(&Report { figures, ..Report::default() });
    assert!(text.contains("| files, cold | 0.61 | 0.50 | **missed** |\n"), "{text}");
    assert!(text.contains("| blocks | not measured | 0.35 |  |\n"), "{text}");
    assert!(text.contains("| memory | 20.0 MiB | 64.0 MiB |  |\n"), "{text}");
}

#[test]
fn a_size_is_shown_with_its_time_per_name() {
    let size = Scale {
        names: 10_000,
        pairs: true,
        seconds: Some(0.5),
        peak_kib: Some(20 << 10),
        create_peak_kib: None,
    };
    let text = render(&Report { scale: vec![size], ..Report::default() });
    assert!(
        text.contains("| 10000 | hard-linked pairs | 0.50 s | 50.0 µs | 20 MiB |  |\n"),
        "{text}"
    );
}
