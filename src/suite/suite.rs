//! The tasks and groups of a file. A group names tasks of the files beside it and in subfolders, or has them
//! in itself.

use crate::{
    entries::{Entries, Entry},
    error::{Error, Origin, Result},
    files,
    groups::{self, Group, MeanConfig},
    task::{self, Task},
    value::Value,
};
use kiln_base::{error::nearest, platform::storage};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Tasks to run, and the groups that they are in.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    pub tasks: Vec<Task>,
    /// Groups, each after those that it contains.
    pub groups: Vec<Group>,
}

impl Suite {
    /// Reads files, each with a task or a group, and all such files of folders.
    ///
    /// # Errors
    /// [`Error::File`] and those of a file that is not right, with the line.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let mut suite = Self::default();
        for path in paths.iter().map(AsRef::as_ref) {
            let is_folder = storage::is_folder(path);
            let folder = if is_folder { path } else { path.parent().unwrap_or(Path::new("")) };
            let mut loader = Loader { folder, index: None, suite, parents: Vec::new() };
            if is_folder {
                loader.add_folder()?;
            } else {
                loader.add_file(path, Entries::load(path)?, &Entries::default())?;
            }
            suite = loader.suite;
        }
        Ok(suite)
    }
}

/// Files beside a suite by the names of their tasks, groups and tags.
#[derive(Default)]
struct Index {
    files: BTreeMap<String, PathBuf>,
    /// Names of the tasks that have a tag.
    tags: BTreeMap<String, Vec<String>>,
    /// Files that cannot be read, and why.
    unreadable: Vec<(PathBuf, String)>,
}

struct Loader<'a> {
    folder: &'a Path,
    index: Option<Index>,
    suite: Suite,
    /// Names of the groups that are being read.
    parents: Vec<String>,
}

impl Loader<'_> {
    /// Adds the groups of the folder, and the tasks that are in none of them. Files that are only there to be
    /// included have neither name.
    fn add_folder(&mut self) -> Result<()> {
        let (mut groups, mut tasks) = (Vec::new(), Vec::new());
        for path in files::list(self.folder)?.into_iter().filter(|path| is_yaml(path)) {
            let keys = Entries::load(&path)?;
            match (task_name(&keys), keys.get("group").is_some()) {
                (Some(name), _) => tasks.push((name, path, keys)),
                (None, true) => groups.push((path, keys)),
                (None, false) => {}
            }
        }
        if groups.is_empty() && tasks.is_empty() {
            return Err(Error::InvalidData {
                path: self.folder.into(),
                row: None,
                message: "has no task file".into(),
                hint: Some("a task file ends in `.yaml` and has a line `task: NAME`".into()),
            });
        }
        let inside: Vec<String> =
            groups.iter().flat_map(|(_, keys)| keys.get("task")).flat_map(member_names).collect();
        for (path, keys) in groups {
            let is_inside = keys.text("group")?.is_some_and(|name| inside.contains(&name));
            if !is_inside {
                self.add_file(&path, keys, &Entries::default())?;
            }
        }
        let grouped: Vec<String> = self.suite.tasks.iter().map(|task| task.name.clone()).collect();
        for (name, path, keys) in tasks {
            if !grouped.contains(&name) {
                self.add_file(&path, keys, &Entries::default())?;
            }
        }
        Ok(())
    }

    /// Adds the task or the group of a file, and returns its name.
    fn add_file(&mut self, path: &Path, mut keys: Entries, overrides: &Entries) -> Result<String> {
        if task_name(&keys).is_none() && keys.get("group").is_some() {
            return self.add_group(None, keys, overrides);
        }
        keys.replace_by(overrides.clone());
        match keys.get("task") {
            Some(entry) => {
                let (name, origin) = (entry.text()?, Origin { key: String::new(), ..entry.origin.clone() });
                self.add_task(name, origin, keys)
            }
            None => Err(Error::InvalidYaml {
                path: path.into(),
                line: 1,
                message: "has neither `task` nor `group`".into(),
                hint: Some("add a line `task: NAME`".into()),
            }),
        }
    }

    fn add_task(&mut self, name: String, origin: Origin, keys: Entries) -> Result<String> {
        if self.suite.tasks.iter().any(|task| task.name == name) {
            let origin = Origin { key: "task".into(), ..origin };
            return Err(origin.invalid(format!("`{name}` is in the suite twice")));
        }
        self.suite.tasks.push(Task::new(name.clone(), origin, keys)?);
        Ok(name)
    }

    /// Adds a group and what is in it. `parent` is the name of the group around one that is written in it.
    fn add_group(&mut self, parent: Option<&str>, keys: Entries, overrides: &Entries) -> Result<String> {
        keys.check(&[&task::KEYS[..], &groups::KEYS].concat(), &[])?;
        let own = keys.get("group").map_or(Ok(String::new()), Entry::text)?;
        let name = parent.map_or_else(|| own.clone(), |parent| format!("{parent}::{own}"));
        let Some(members) = keys.get("task") else {
            let origin = keys.get("group").map(|entry| entry.origin.clone());
            let origin =
                origin.unwrap_or_else(|| Origin { path: self.folder.into(), line: 1, key: "group".into() });
            return Err(origin.invalid_with("has no tasks", "add a list `task: [NAME, …]`"));
        };
        if self.parents.contains(&name) || self.suite.groups.iter().any(|group| group.name == name) {
            return Err(members
                .origin
                .invalid(format!("is of the group `{name}`, which is in the suite twice")));
        }
        let mut merged = keys.clone();
        merged.retain(|key| !groups::KEYS.contains(&key));
        merged.replace_by(overrides.clone());
        self.parents.push(name.clone());
        let (first_task, mut children) = (self.suite.tasks.len(), Vec::new());
        for member in members.list()? {
            children.extend(self.add_member(&name, &member, &merged)?);
        }
        self.parents.pop();
        let version = match keys.get("metadata").map(|entry| entry.node.to_value()) {
            Some(Value::Map(metadata)) => metadata.get("version").map(Value::to_text),
            _ => None,
        };
        self.suite.groups.push(Group {
            alias: keys.text("group_alias")?,
            means: MeanConfig::list(&keys)?,
            tasks: self.suite.tasks[first_task..].iter().map(|task| task.name.clone()).collect(),
            version: version.unwrap_or_else(|| "N/A".into()).into(),
            name: name.clone(),
            children,
        });
        Ok(name)
    }

    /// Adds an item of a group's list, and returns the names of its tasks.
    fn add_member(&mut self, group: &str, member: &Entry, overrides: &Entries) -> Result<Vec<String>> {
        if !member.is_map() {
            return self.add_named(member, &member.text()?, overrides);
        }
        let mut own = member.map()?;
        // The keys of the item are those of a task, not of a part of `task`.
        own.make_top_level();
        if own.get("group").is_some() {
            return Ok(vec![self.add_group(Some(group), own, overrides)?]);
        }
        let Some(entry) = own.get("task").cloned() else {
            return Err(member.origin.invalid("has an item with neither `task` nor `group`"));
        };
        let name = entry.text()?;
        let mut keys = overrides.clone();
        keys.replace_by(own);
        if self.index()?.find(&name).is_some() {
            keys.retain(|key| key != "task");
            return self.add_named(&entry, &name, &keys);
        }
        let origin = Origin { key: String::new(), ..entry.origin };
        Ok(vec![self.add_task(format!("{group}::{name}"), origin, keys)?])
    }

    /// Adds the task, the group or all tasks of the tag with a name, or those of a file.
    fn add_named(&mut self, entry: &Entry, name: &str, overrides: &Entries) -> Result<Vec<String>> {
        let names = self.index()?.tags.get(name).cloned().unwrap_or_else(|| vec![name.into()]);
        let mut added = Vec::new();
        for name in names {
            let beside = self.folder.join(&name);
            let path = if is_yaml(&beside) && storage::exists(&beside) {
                Some(beside)
            } else {
                self.index()?.find(&name)
            };
            let path = path.map_or_else(|| Err(self.unknown(entry, &name)), Ok)?;
            added.push(self.add_file(&path, Entries::load(&path)?, overrides)?);
        }
        Ok(added)
    }

    fn unknown(&self, entry: &Entry, name: &str) -> Error {
        let index = self.index.as_ref();
        let known: Vec<&str> =
            index.map(|index| index.files.keys().map(String::as_str).collect()).unwrap_or_default();
        let unreadable = index.and_then(|index| index.unreadable.first());
        let hint = match (nearest(name, known.iter().copied()), unreadable) {
            (Some(name), _) => format!("did you mean `{name}`?"),
            (None, Some((path, reason))) => {
                format!("is it in `{}`, which cannot be read: {reason}", path.display())
            }
            (None, None) => {
                format!("a file beside `{}` must have it as its `task`", entry.origin.path.display())
            }
        };
        let name = name.into();
        Error::UnknownName { origin: entry.origin.clone(), what: "task or group", name, hint }
    }

    /// The index of the files beside the suite, which is read when it is first needed.
    fn index(&mut self) -> Result<&Index> {
        let index = match self.index.take() {
            Some(index) => index,
            None => Index::new(self.folder)?,
        };
        Ok(self.index.insert(index))
    }
}

impl Index {
    fn new(folder: &Path) -> Result<Self> {
        let mut index = Self::default();
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        for path in files::list(folder)?.into_iter().filter(|path| is_yaml(path)) {
            match Entries::load(&path) {
                Ok(keys) => index.add(path, &keys),
                Err(error) => index.unreadable.push((path, error.to_string())),
            }
        }
        Ok(index)
    }

    fn add(&mut self, path: PathBuf, keys: &Entries) {
        let text = |name: &str| keys.get(name).and_then(|entry| entry.text().ok());
        let task = text("task");
        if let Some(task) = &task {
            for tag in keys.get("tag").map(Entry::one_or_list).unwrap_or_default() {
                if let Ok(tag) = tag.text() {
                    self.tags.entry(tag).or_default().push(task.clone());
                }
            }
        }
        if let Some(name) = task.or_else(|| text("group")) {
            self.files.entry(name).or_insert(path);
        }
        self.tags.values_mut().for_each(|tasks| tasks.sort());
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.files.get(name).cloned()
    }
}

/// Name of the task of a file. In a group, `task` is a list.
fn task_name(keys: &Entries) -> Option<String> {
    keys.get("task").and_then(|entry| entry.text().ok())
}

/// Names that stand in the list of a group.
fn member_names(list: &Entry) -> Vec<String> {
    let members = list.list().unwrap_or_default();
    members.iter().filter_map(|member| member.text().ok()).collect()
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}
