//! Unit tests of the reader: layout, bounds, wording.

use super::*;

/// A file of one key and one tensor, put together by hand after the specification.
fn small() -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(b"GGUF");
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    string(&mut file, "some.key");
    file.extend((ValueType::U16 as u32).to_le_bytes());
    file.extend(77_u16.to_le_bytes());
    string(&mut file, "w");
    file.extend(2_u32.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    file.extend(3_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    for value in 0..6 {
        file.extend((value as f32).to_le_bytes());
    }
    file
}

fn string(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

#[test]
fn a_file_made_by_hand_reads_back() {
    let bytes = small();
    let file = GgufFile::from_bytes(bytes.clone()).expect("a valid file");
    assert_eq!((file.version(), file.alignment(), file.file_bytes()), (3, 32, bytes.len()));
    assert_eq!(file.u32("some.key").expect("a number"), Some(77));
    assert_eq!(file.u32("no.key").expect("absent"), None);
    let tensor = file.tensor("w").expect("the tensor");
    assert_eq!((tensor.shape(), tensor.rows(), tensor.cols()), (&[2, 3][..], 3, 2));
    assert_eq!(tensor.bytes(), &bytes[tensor.offset()..][..24]);
    assert!(file.tensor("W").is_none());
}

#[test]
fn a_key_of_another_type_is_told_with_key_found_and_wanted() {
    let file = GgufFile::from_bytes(small()).expect("a valid file");
    let error = file.str("some.key").expect_err("not a string");
    assert_eq!(error.to_string(), "key `some.key`: found u16 77, wanted string");
    let error = file.strings("some.key").expect_err("not an array");
    assert_eq!(error.to_string(), "key `some.key`: found u16 77, wanted array of string");
}

#[test]
fn everything_may_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<GgufFile>();
    check::<GgufError>();
    check::<Tensor>();
    check::<StringArray>();
}

#[test]
fn tensors_outlive_the_file_they_came_from() {
    let tensor = {
        let file = GgufFile::from_bytes(small()).expect("a valid file");
        file.tensor("w").expect("the tensor")
    };
    assert_eq!(tensor.bytes().len(), 24);
}
