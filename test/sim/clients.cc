// SPDX-License-Identifier: MIT
// The clients of a life: see the header.
#include "test/sim/clients.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/buffer.h"

namespace moltfs::sim {

bool is_power_error(const Error& error) {
  return error.code == Errc::io_error || error.code == Errc::read_only ||
         error.code == Errc::device_gone || error.code == Errc::bad_node;
}

void Clients::add(int count) {
  for (int i = 0; i < count; ++i) all_.push_back(std::make_unique<Client>(i));
}

void Clients::make_directories() {
  for (auto& client : all_) {
    auto made = mount_->filesystem().make(fs::kRootInode, client->name, 0040755, 0, {});
    if (!made) fail("mkdir: {}", made.error().message());
    client->directory = made.value().ino;
    mount_->filesystem().forget(made.value().ino, 1);
  }
}

std::vector<std::unique_ptr<Task>> Clients::start() {
  stop_ = false;
  std::vector<std::unique_ptr<Task>> tasks;
  for (auto& client : all_) {
    tasks.push_back(runtime_.spawn(client->name, [this, c = client.get()] { work(*c); }));
  }
  return tasks;
}

void Clients::one_more() {
  if (!count_operation()) return;
  Client& client = *all_[random(all_.size())];
  auto done = one_operation(client);
  if (!done && done.error().code != Errc::no_space) {
    fail("{}: {}", client.name, done.error().message());
  }
}

void Clients::all_durable() {
  for (auto& client : all_) client->history.durable(client->history.completed());
}

DirState Clients::read(Client& client) {
  auto state = read_state(mount_->filesystem(), client.directory);
  if (!state) fail("{}: reading: {}", client.name, state.error().message());
  return std::move(state).value();
}

void Clients::verify_now() {
  for (auto& client : all_) {
    std::string why;
    if (!same(client->history.newest(), read(*client), &why)) fail("{}: {}", client->name, why);
  }
}

void Clients::verify_after_cut() {
  for (auto& client : all_) {
    std::string why;
    if (!client->history.recover(read(*client), &why)) {
      fail("{} after a power cut: no state of its history; newest: {}", client->name, why);
    }
  }
}

void Clients::work(Client& client) {
  while (!stop_ && devices_.power()) {
    if (!count_operation()) return;
    const Result<void> done = counted_operation(client);
    if (!done) {
      if (!devices_.power() && is_power_error(done.error())) return;
      if (done.error().code != Errc::no_space) {
        fail("{}: {}", client.name, done.error().message());
      }
    }
    if (chance(0.3)) runtime_.sleep(std::chrono::microseconds(random(8000)));
  }
}

/// In every other life the copier knows of the clients and leaves them time.
Result<void> Clients::counted_operation(Client& client) {
  if (!shares_load_) return one_operation(client);
  const Nanoseconds begun = runtime_.now();
  auto done = one_operation(client);
  mount_->request_load().count(begun, runtime_.now());
  return done;
}

std::string Clients::random_bytes(uint64_t length) {
  std::string bytes(length, '\0');
  const uint64_t stamp = ++stamp_;
  for (uint64_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>((stamp * 0x9e3779b97f4a7c15 + i * 0xff51afd7ed558ccd) >> 37);
  }
  return bytes;
}

/// Announces the next state, does the operation, takes the state back if it was refused.
Result<void> Clients::step(Client& client, DirState next,
                           const std::function<Result<void>()>& act) {
  client.history.issue(std::move(next));
  auto done = act();
  if (!done && !is_power_error(done.error())) client.history.take_back();
  return done;
}

/// Runs `act` with the inode of `name` and holds a reference meanwhile.
Result<void> Clients::with_file(Client& client, const std::string& name,
                                const std::function<Result<void>(InodeNumber)>& act) {
  auto& filesystem = mount_->filesystem();
  TRY(auto attributes, filesystem.lookup(client.directory, name));
  auto done = act(attributes.ino);
  filesystem.forget(attributes.ino, 1);
  return done;
}

Result<void> Clients::one_operation(Client& client) {
  if (fsyncs_much && chance(0.2)) return sync(client);
  const uint64_t dice = random(100);
  if (client.history.newest().names.size() < 3 || dice < 14) return create(client);
  if (dice < 55) return change_content(client);
  if (dice < 75) return change_names(client);
  if (dice < 81) return set_xattr(client);
  if (dice < 92) return sync(client);
  if (dice < 94) return purge(client);
  return read_back(client);
}

std::string Clients::any_name(Client& client) {
  const auto& names = client.history.newest().names;
  auto it = names.begin();
  std::advance(it, static_cast<ptrdiff_t>(random(names.size())));
  return it->first;
}

Result<void> Clients::create(Client& client) {
  if (client.history.newest().names.size() > 24) return unlink(client, any_name(client));
  const std::string name = "f" + std::to_string(client.next_file++);
  DirState next = client.history.newest();
  const FileId id = client.next_id++;
  next.names[name] = id;
  next.files[id] = {};
  return step(client, std::move(next), [&]() -> Result<void> {
    TRY(auto made, mount_->filesystem().make(client.directory, name, 0100644, 0, {}));
    mount_->filesystem().forget(made.ino, 1);
    return ok();
  });
}

Result<void> Clients::change_content(Client& client) {
  const std::string name = any_name(client);
  DirState next = client.history.newest();
  FileState& file = next.files[next.names[name]];
  std::string content = *file.content;
  const uint64_t dice = random(10);
  std::function<Result<void>(InodeNumber)> act;
  if (dice < 6) {  // write: aligned or not, inside, across the end, past the end
    const bool aligned = chance(0.6);
    const uint64_t unit = aligned ? kBlockSize : 1;
    const uint64_t span = std::min<uint64_t>(content.size() + 20'000, 400'000);
    const uint64_t offset = random(span / unit + 1) * unit;
    const std::string bytes = random_bytes((1 + random(aligned ? 16 : 30'000)) * unit);
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
    content.replace(offset, bytes.size(), bytes);
    act = [this, offset, bytes](InodeNumber ino) -> Result<void> {
      // In aligned memory or surely not aligned: nothing may depend on where the heap is.
      const uint64_t shift = random(2);
      AlignedBuffer buffer(round_up(bytes.size() + shift, kBlockSize));
      std::memcpy(buffer.data() + shift, bytes.data(), bytes.size());
      TRY(mount_->filesystem().write(ino, offset, buffer.span().subspan(shift, bytes.size()), {}));
      return ok();
    };
  } else if (dice < 8) {
    const uint64_t size = random(2) == 0 ? random(content.size() + 1) : random(150'000);
    content.resize(size);
    act = [this, size](InodeNumber ino) -> Result<void> {
      fs::SetAttributes set;
      set.size = size;
      TRY(mount_->filesystem().set_attributes(ino, set));
      return ok();
    };
  } else {
    const uint64_t offset = random(content.size() + 1), length = 1 + random(60'000);
    const auto mode = dice == 8 ? fs::AllocateMode::punch_hole : fs::AllocateMode::allocate;
    if (dice == 8) {
      for (uint64_t i = offset; i < std::min<uint64_t>(offset + length, content.size()); ++i) {
        content[i] = '\0';
      }
    }
    act = [this, offset, length, mode](InodeNumber ino) {
      return mount_->filesystem().allocate(ino, mode, offset, length, true);
    };
  }
  file.content = std::make_shared<const std::string>(std::move(content));
  return step(client, std::move(next), [&] { return with_file(client, name, act); });
}

Result<void> Clients::unlink(Client& client, const std::string& name) {
  DirState next = client.history.newest();
  const FileId id = next.names[name];
  next.names.erase(name);
  if (std::none_of(next.names.begin(), next.names.end(),
                   [id](const auto& other) { return other.second == id; })) {
    next.files.erase(id);
  }
  return step(client, std::move(next),
              [&] { return mount_->filesystem().unlink(client.directory, name); });
}

/// Removes most files: chunks become empty and are removed.
Result<void> Clients::purge(Client& client) {
  while (client.history.newest().names.size() > 2) {
    TRY(unlink(client, any_name(client)));
  }
  return ok();
}

Result<void> Clients::change_names(Client& client) {
  const std::string name = any_name(client);
  const uint64_t dice = random(3);
  if (dice == 0) return unlink(client, name);
  std::string other = chance(0.5) ? any_name(client) : "n" + std::to_string(client.next_file++);
  DirState next = client.history.newest();
  const FileId id = next.names[name];
  const bool exists = next.names.count(other) != 0;
  if (dice == 1) {
    if (exists) return ok();
    next.names[other] = id;
    return step(client, std::move(next), [&] {
      return with_file(client, name, [&](InodeNumber ino) -> Result<void> {
        TRY(mount_->filesystem().link(ino, client.directory, other));
        mount_->filesystem().forget(ino, 1);
        return ok();
      });
    });
  }
  if (exists && next.names[other] == id) return ok();  // both names of one file: no change
  const FileId victim = exists ? next.names[other] : 0;
  next.names.erase(name);
  next.names[other] = id;
  if (exists && std::none_of(next.names.begin(), next.names.end(),
                             [victim](const auto& n) { return n.second == victim; })) {
    next.files.erase(victim);
  }
  return step(client, std::move(next), [&] {
    return mount_->filesystem().rename(client.directory, name, client.directory, other,
                                       fs::RenameMode::replace, {});
  });
}

Result<void> Clients::set_xattr(Client& client) {
  const std::string name = any_name(client), key = "user.x" + std::to_string(random(4));
  const std::string value = random_bytes(random(chance(0.2) ? 9000 : 200));
  DirState next = client.history.newest();
  next.files[next.names[name]].xattrs[key] = value;
  return step(client, std::move(next), [&] {
    return with_file(client, name, [&](InodeNumber ino) {
      return mount_->filesystem().set_xattr(ino, key, std::as_bytes(std::span(value)),
                                            fs::XattrMode::any);
    });
  });
}

Result<void> Clients::sync(Client& client) {
  const size_t index = client.history.completed();
  const auto succeeded = on_sync ? on_sync(client) : std::function<void()>();
  TRY(chance(fsyncs_much ? 0.02 : 0.15) ? mount_->filesystem().commit()
                                        : mount_->filesystem().sync());
  if (!devices_.power()) return Error(Errc::io_error);  // the power may have gone after it
  client.history.durable(index);
  if (succeeded) succeeded();
  return ok();
}

Result<void> Clients::read_back(Client& client) {
  const std::string name = any_name(client);
  const auto& newest = client.history.newest();
  const auto want = newest.files.at(newest.names.at(name)).content;
  return with_file(client, name, [&](InodeNumber ino) -> Result<void> {
    const uint64_t shift = random(2);
    AlignedBuffer buffer(round_up(want->size() + 10 + shift, kBlockSize));
    const Bytes into = buffer.span().subspan(shift, want->size() + 10);
    TRY(auto n, mount_->filesystem().read(ino, 0, into));
    if (std::string_view(reinterpret_cast<const char*>(into.data()), n) != *want)
      fail("{}/{}: wrong bytes while mounted", client.name, name);
    return ok();
  });
}

}  // namespace moltfs::sim
