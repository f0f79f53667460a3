//! Tests of `kiln data` over networks: ranks that share an object store, and sources on a server that breaks
//! off.

use crate::{
    data::{PIPELINE, dropped, kept, manifest, run, shards, stage, workplace},
    support::{fails, file, folder, kiln, ok, words},
};
use sha2::{Digest, Sha256};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

#[test]
fn ranks_over_an_object_store_give_the_same_bytes() {
    let folder = workplace(PIPELINE, 600);
    let path = folder.path();
    ok(&mut run(path, "one", "--workers 2"));
    let store = format!("file://{}", path.join("bucket").display());
    let run_ranks = || {
        let ranks: Vec<_> = (0..3)
            .map(|rank| {
                let own = format!("--quiet --workers 1 --rank {rank} --world-size 3 --cache cache-{rank}");
                run(path, &store, &own).spawn().unwrap()
            })
            .collect();
        for mut rank in ranks {
            assert!(rank.wait().unwrap().success());
        }
        assert!(shards(path, "bucket") == shards(path, "one"));
    };
    run_ranks();
    let (one, bucket) = (manifest(path, "one"), manifest(path, "bucket"));
    assert_eq!(one["shards"], bucket["shards"]);
    for name in ["report.html", "README.md"] {
        assert!(path.join("bucket").join(name).exists(), "{name}");
    }
    // No rank has all of it: what another made comes from the store, also for whoever looks into it later.
    assert!(!path.join("cache-1/manifest.json").exists());
    let shown =
        ok(kiln(words("data inspect --reason kept --json --cache cache-x")).arg(&store).current_dir(path));
    assert!(shown.contains("\"stage\": \"fuzzy-duplicates\""), "{shown}");
    let output = run(path, &store, "--cache cache-y").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("finished before").count(), 9, "{said}");
    assert!(shards(path, "bucket") == shards(path, "one"));
    // What caches say is finished is not taken for that in a store that does not have it.
    std::fs::remove_dir_all(path.join("bucket")).unwrap();
    run_ranks();
}

#[test]
fn places_that_take_no_files_are_refused() {
    let folder = workplace(PIPELINE, 10);
    let path = folder.path();
    for (out, more, says) in [
        ("http://127.0.0.1:9/x", "", "takes no files"),
        ("nowhere://bucket", "", "--out"),
        ("here", "--cache there", "--cache"),
    ] {
        fails(&mut run(path, out, more), 2, &[says]);
    }
    std::fs::write(path.join("taken"), "a file").unwrap();
    fails(&mut run(path, "taken", ""), 2, &["taken", "hint: "]);
}

#[test]
fn a_folder_takes_one_run_at_a_time() {
    let folder = workplace(PIPELINE, 10);
    let path = folder.path();
    std::fs::create_dir_all(path.join("out/work")).unwrap();
    let lock = std::fs::File::create(path.join("out/work/rank-0.lock")).unwrap();
    lock.lock().unwrap();
    fails(&mut run(path, "out", ""), 2, &["in use by another", "hint: "]);
    drop(lock);
    ok(&mut run(path, "out", ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_runs_full_costs_nothing_that_is_finished() {
    use crate::support::SmallDisk;
    let folder = workplace(PIPELINE, 1500);
    let path = folder.path();
    ok(&mut run(path, "enough", ""));
    let small = path.join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(disk) = SmallDisk::mount(&small, "1m") else {
        eprintln!("passed over: only the superuser may mount a small disk");
        return;
    };
    let full = ["No space left on device", "free some space"];
    fails(&mut run(path, "small", ""), 1, &full);
    for size in ["1500k", "2m", "2500k", "3m"] {
        disk.resize(size);
        let output = run(path, "small", "").output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
    disk.resize("64m");
    ok(&mut run(path, "small", ""));
    assert!(shards(path, "small") == shards(path, "enough"));
}

/// Serves `content` under every name and breaks off in the middle of the first `breaks` answers. Returns the
/// address and the log of requests.
fn flaky_server(content: Vec<u8>, breaks: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut left = breaks;
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let Some(request) = answer(stream, &content, &mut left) else { continue };
            log.lock().unwrap().push(request);
        }
    });
    (address, asked)
}

fn answer(mut stream: TcpStream, content: &[u8], breaks: &mut usize) -> Option<String> {
    let lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let line = head.first()?.clone();
    let range =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let start: usize = match &range {
        Some(range) => range.split('-').next()?.parse().ok()?,
        None => 0,
    };
    let body = &content[start.min(content.len())..];
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let (last, all) = (content.len() - 1, content.len());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{last}/{all}\r\n\
         Last-Modified: Sun, 29 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .ok()?;
    if line.starts_with("GET") {
        let sent = if *breaks > 0 { body.len() / 2 } else { body.len() };
        *breaks = breaks.saturating_sub(1);
        stream.write_all(&body[..sent]).ok()?;
    }
    Some(format!("{line} {}", range.unwrap_or_default()))
}

#[test]
fn downloads_go_on_where_they_broke_off_and_are_checked() {
    let lines: String =
        (0..5000).map(|line| format!("{{\"text\": \"line {line} of a file on a server\"}}\n")).collect();
    let digest: String = Sha256::digest(&lines).iter().map(|byte| format!("{byte:02x}")).collect();
    let (address, asked) = flaky_server(lines.clone().into_bytes(), 2);
    let folder = folder();
    let path = folder.path();
    let pipeline = |digest: &str| {
        format!("[[source]]\nname = \"x\"\npaths = [\"{address}/lines.jsonl\"]\nsha256 = [\"{digest}\"]\n")
    };
    file(&folder, "pipeline.toml", pipeline(&digest));
    ok(&mut run(path, "out", ""));
    assert_eq!(kept(&manifest(path, "out"), "extract"), 5000);
    let requests = asked.lock().unwrap().clone();
    let resumed =
        requests.iter().filter(|request| request.starts_with("GET") && !request.ends_with(' ')).count();
    assert!(resumed >= 1, "{requests:?}");
    let shown = ok(kiln(words("data inspect out --reason kept --count 1")).current_dir(path));
    assert!(shown.contains(&format!("{address}/lines.jsonl")), "{shown}");
    // Nothing is fetched again, and ranks agree on what is read.
    let ranks: Vec<_> = (0..2)
        .map(|rank| run(path, "ranks", &format!("--quiet --rank {rank} --world-size 2")).spawn().unwrap())
        .collect();
    for mut rank in ranks {
        assert!(rank.wait().unwrap().success());
    }
    let before = asked.lock().unwrap().len();
    ok(&mut run(path, "ranks", ""));
    assert_eq!(asked.lock().unwrap().len(), before);

    // Another file than the checksum says is reported, or ends the run.
    file(&folder, "pipeline.toml", pipeline(&"0".repeat(64)));
    ok(&mut run(path, "changed", ""));
    let found = manifest(path, "changed");
    assert_eq!(dropped(&found, "extract", "failed"), 1);
    assert_eq!(stage(&found, "extract")["read"]["documents"], 1);
    fails(&mut run(path, "stop", "--set on_fault=stop"), 2, &["source.sha256", "hint: "]);
}
