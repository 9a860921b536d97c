//! What the reader of boot menus sees of a root directory.

use boot::menu::Files;

use super::RootDir;

impl Files for RootDir {
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path).ok().flatten()
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let names = self.names(directory).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }

    fn is_there(&self, path: &str) -> bool {
        self.exists(path)
    }

    fn is_file(&self, path: &str) -> bool {
        self.metadata(path).is_ok_and(|found| found.is_some_and(|found| found.is_file()))
    }
}
