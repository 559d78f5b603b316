//! timm's names of the parts of a network that torchvision has, too.

/// torchvision's name of what timm calls `name` in B0 … B7, if it is in such a network.
pub(super) fn torchvision_name(name: &str) -> Option<String> {
    let Some(name) = name.strip_prefix("blocks.") else {
        const ENDS: [(&str, &str); 5] = [
            ("conv_stem", "features.0.0"),
            ("bn1", "features.0.1"),
            ("conv_head", "features.8.0"),
            ("bn2", "features.8.1"),
            ("classifier", "classifier.1"),
        ];
        let (part, tensor) = name.split_once('.')?;
        return Some(format!("{}.{tensor}", find(&ENDS, part)?));
    };
    // The first stage's blocks expand nothing.
    const FIRST: [(&str, &str); 6] = [
        ("conv_dw", "0.0"),
        ("bn1", "0.1"),
        ("se.conv_reduce", "1.fc1"),
        ("se.conv_expand", "1.fc2"),
        ("conv_pw", "2.0"),
        ("bn2", "2.1"),
    ];
    const OTHERS: [(&str, &str); 8] = [
        ("conv_pw", "0.0"),
        ("bn1", "0.1"),
        ("conv_dw", "1.0"),
        ("bn2", "1.1"),
        ("se.conv_reduce", "2.fc1"),
        ("se.conv_expand", "2.fc2"),
        ("conv_pwl", "3.0"),
        ("bn3", "3.1"),
    ];
    let (stage, rest) = name.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let (part, tensor) = rest.rsplit_once('.')?;
    let stage: usize = stage.parse().ok().filter(|&stage| stage < 7)?;
    let part = if stage == 0 { find(&FIRST, part)? } else { find(&OTHERS, part)? };
    Some(format!("features.{}.{block}.block.{part}.{tensor}", stage + 1))
}

fn find(names: &[(&str, &'static str)], timm: &str) -> Option<&'static str> {
    names.iter().find(|(name, _)| *name == timm).map(|(_, ours)| *ours)
}
