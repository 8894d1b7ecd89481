//! The file of a Unix socket is left alone once it is somebody else's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat_tokio::{Echo, Endpoint, Server, ServerBuilder};

async fn serve(path: &Path) -> Server {
    let builder = ServerBuilder::new(Echo).listen(Endpoint::unix(path));
    builder.bind().await.unwrap()
}

#[tokio::test]
async fn what_took_the_socket_s_place_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sock");
    let server = serve(&path).await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody's").unwrap();
    server.stop().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
}

#[tokio::test]
async fn a_socket_that_is_still_there_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sock");
    let server = serve(&path).await;
    server.stop().await;
    assert!(!path.exists());
}
