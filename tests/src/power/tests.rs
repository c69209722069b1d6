use std::fs;

use super::*;

fn disk() -> (tempfile::TempDir, Recording) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("old"), vec![1; 2000]).unwrap();
    let path = home.display();
    let lines = [
        format!("1 openat(AT_FDCWD<{path}>, \"{path}/old\", O_RDWR) = 3<{path}/old>"),
        format!("1 openat(AT_FDCWD<{path}>, \"{path}/new\", O_RDWR|O_CREAT, 0600) = 4<{path}/new>"),
        format!("1 pwrite64(3<{path}/old>, \"\\x02\\x02\", 2, 600) = 2"),
        format!("1 fdatasync(3<{path}/old>) = 0"),
        format!("1 write(4<{path}/new>, \"\\x41\", 1) = 1"),
        "1 write(1<pipe:[1]>, \"\\x6f\\x6b\", 2) = 2".to_owned(),
        format!("1 pwrite64(3<{path}/old>, \"\\x03\\x03\", 2, 1023) = 2"),
    ];
    let mut reader = Reader::new(Disk::read(std::slice::from_ref(&home)));
    lines.iter().for_each(|line| reader.read(line));
    let before = Disk::read(&[home]);
    let steps = reader.steps;
    (folder, Recording { before, steps })
}

#[test]
fn what_was_synced_is_kept_and_the_rest_is_there_or_not_by_sectors() {
    let (folder, recording) = disk();
    let (mut torn, mut named) = (0, 0);
    for seed in 0..300 {
        let known = recording.lose_power(recording.steps.len(), &mut Dice::new(seed));
        assert_eq!(known.said, "ok");
        let home = folder.path().join("home");
        assert_eq!(known.seen[&home.join("new")], b"A");
        let old = fs::read(home.join("old")).unwrap();
        assert_eq!(old[600..602], [2, 2]);
        torn += u32::from(old[1023] != old[1024]);
        named += u32::from(home.join("new").exists());
    }
    assert!(torn > 20 && named > 50 && named < 250, "{torn} {named}");
}
