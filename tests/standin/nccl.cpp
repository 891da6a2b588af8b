// A stand-in for libnccl.so.2: sums of floats over processes of one machine, and pieces of memory
// that one sends another, queued on the streams of the stand-in for the driver. Test code: what
// processes have to say to each other lies in files in the folder STANDIN_NCCL (/tmp), which nobody
// takes away.
//
// A sum is two pieces of work on its stream: one hands this process's numbers over, the other waits
// for those of all and adds them up in the order of ranks. Streams are lazy, and whoever waits
// holds the driver's lock; so before it waits it sees to it that the other communicators of its
// process have handed over as many sums: of two ranks that wait for each other one would have done
// more. Pieces are sent and received in groups: a group hands all of its pieces over before it
// waits for any, and none of them may lie where another one is written. A GPU goes on by itself
// while its host waits for other things, such as other processes; so does a thread here, which
// hands over what nobody has asked for in a while.
//   STANDIN_NCCL_INIT=n     connecting fails with this code
//   STANDIN_NCCL_SUM=n      the n-th sum or piece that a process hands over fails
//   STANDIN_NCCL_LOST=n     none is handed over from the n-th sum or group on: the others wait
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default"))) int

namespace {

enum { SUCCESS = 0, UNHANDLED_CUDA_ERROR = 1, SYSTEM_ERROR = 2, INVALID_USAGE = 5 };

struct Id { char text[128]; };

using Queue = int (*)(void*, const char*, char*, size_t, bool, int (*)(void*, char*), void*,
                      uint64_t*);

/// What collectives.cpp has.
struct Driver {
    Queue queue;
    int (*force)(void*, uint64_t);
    void (*write)(char*, const void*, size_t, void*);
    int (*alone)(int (*)(void*), void*);

    Driver() {
        void* library = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
        auto get = [&](auto& f, const char* name) {
            *reinterpret_cast<void**>(&f) = library ? dlsym(library, name) : nullptr;
            if (!f) fprintf(stderr, "stand-in: NCCL without its driver\n"), abort();
        };
        get(queue, "standin_queue"), get(force, "standin_force"), get(write, "standin_write");
        get(alone, "standin_alone");
    }
};
const Driver& driver() {
    static Driver own;
    return own;
}

long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value && *value ? atol(value) : otherwise;
}

struct Communicator {
    std::string folder;
    int rank, size;
    void* stream = nullptr;
    std::vector<uint64_t> handed_over;  // where on the stream each sum or group is
    long waiting = -1;                  // the one whose others are waited for now
    size_t seen = 0;                    // of them when the thread last looked
    std::atomic<bool> aborted{false};
    long sums = 0;
    std::map<std::pair<int, int>, long> pieces = {};  // from one rank to another, so far

    Communicator(const char* folder, int rank, int size)
        : folder(folder), rank(rank), size(size) {}
};
std::vector<Communicator*> communicators;  // under the driver's lock

std::string file(const Communicator& c, const std::string& what, int rank) {
    return c.folder + "/" + what + "." + std::to_string(rank);
}

bool write_file(const std::string& path, const void* bytes, size_t size) {
    std::string beside = path + ".new";
    FILE* out = fopen(beside.c_str(), "w");
    if (!out) return false;
    bool whole = fwrite(bytes, 1, size, out) == size;
    return (fclose(out) == 0) & whole && rename(beside.c_str(), path.c_str()) == 0;
}

/// Waits for a file, two minutes at most.
bool wait_for(const std::string& path) {
    struct stat found;
    for (long i = 0; i < 240000; i++) {
        if (stat(path.c_str(), &found) == 0) return true;
        usleep(500);
    }
    fprintf(stderr, "stand-in: NCCL has waited two minutes for %s\n", path.c_str());
    return false;
}

std::atomic<bool> ends{false};

/// Hands over what was there when the last call looked.
int go_on(void*) {
    for (Communicator* own : communicators) {
        if (own->aborted || ends) continue;
        if (own->seen > 0 && own->waiting < 0)
            driver().force(own->stream, own->handed_over[own->seen - 1]);
        own->seen = own->handed_over.size();
    }
    return 0;
}

void go_on_for_ever() {
    while (!ends) {
        usleep(300000);
        if (!ends) driver().alone(go_on, nullptr);
    }
}

struct Sum {
    Communicator* own;
    long number, at;  // among the sums, and among sums and groups
    size_t bytes;
};

/// Whether what is handed over there is lost.
bool is_lost(long at) {
    long lost = setting("STANDIN_NCCL_LOST", 0);
    return lost && at + 1 >= lost;
}

/// Whether this sum or piece is the one that fails.
bool fails() {
    static long calls = 0;
    return ++calls == setting("STANDIN_NCCL_SUM", 0);
}

int hand_over(void* context, char* p) {
    Sum& sum = *static_cast<Sum*>(context);
    if (is_lost(sum.at)) return 0;
    std::string path = file(*sum.own, std::to_string(sum.number), sum.own->rank);
    return write_file(path, p, sum.bytes) ? 0 : 719;
}

/// The other communicators of this process hand over as many.
void let_others_hand_over(Communicator& own, long at) {
    own.waiting = at;
    for (Communicator* other : communicators) {
        size_t most = std::min(other->handed_over.size(), size_t(at) + 1);
        if (other == &own || other->waiting >= 0 || most == 0) continue;
        driver().force(other->stream, other->handed_over[most - 1]);
    }
}

/// What is in a file once it is there; whether it has as many bytes.
bool read_file(const std::string& path, void* to, size_t bytes) {
    if (!wait_for(path)) return false;
    FILE* in = fopen(path.c_str(), "r");
    size_t read = in ? fread(to, 1, bytes, in) : 0;
    if (in) fclose(in);
    struct stat found;
    if (read == bytes && stat(path.c_str(), &found) == 0 && size_t(found.st_size) == read)
        return true;
    return fprintf(stderr, "stand-in: ranks give each other buffers of other lengths\n"), false;
}

int add_up(void* context, char* p) {
    Sum sum = *static_cast<Sum*>(context);
    delete static_cast<Sum*>(context);
    Communicator& own = *sum.own;
    let_others_hand_over(own, sum.at);
    std::vector<float> all(sum.bytes / 4), one(sum.bytes / 4);
    for (int rank = 0; rank < own.size; rank++) {
        std::string path = file(own, std::to_string(sum.number), rank);
        if (!read_file(path, one.data(), sum.bytes)) return 719;
        for (size_t i = 0; i < all.size(); i++) all[i] = rank ? all[i] + one[i] : one[i];
    }
    // All have begun this one, so that nobody reads the last one any more.
    unlink(file(own, std::to_string(sum.number - 1), own.rank).c_str());
    own.waiting = -1;
    return driver().write(p, all.data(), sum.bytes, own.stream), 0;
}

/// A piece of memory of this rank, to or from `other`.
struct Piece {
    Communicator* own;
    bool sent;
    char* p;
    size_t bytes;
    int other;
    void* stream;
    long number = 0, at = 0;  // of those from this rank to that, and among sums and groups

    bool overlaps(const Piece& b) const { return p < b.p + b.bytes && b.p < p + bytes; }
    std::string path() const {
        int from = sent ? own->rank : other, to = sent ? other : own->rank;
        std::string what = std::to_string(from) + "-" + std::to_string(to);
        return file(*own, "piece-" + what, int(number));
    }
};
thread_local long groups = 0;  // that are open
thread_local std::vector<Piece> group;

int hand_over_piece(void* context, char* p) {
    Piece piece = *static_cast<Piece*>(context);
    delete static_cast<Piece*>(context);
    if (is_lost(piece.at)) return 0;
    return write_file(piece.path(), p, piece.bytes) ? 0 : 719;
}

int take_piece(void* context, char* p) {
    Piece piece = *static_cast<Piece*>(context);
    delete static_cast<Piece*>(context);
    let_others_hand_over(*piece.own, piece.at);
    std::vector<char> bytes(piece.bytes);
    if (!read_file(piece.path(), bytes.data(), bytes.size())) return 719;
    unlink(piece.path().c_str());
    piece.own->waiting = -1;
    return driver().write(p, bytes.data(), bytes.size(), piece.stream), 0;
}

/// Queues the pieces of a group, those that are sent first.
int queue_group(void* context) {
    auto& pieces = *static_cast<std::vector<Piece>*>(context);
    for (auto& a : pieces) {
        for (auto& b : pieces) {
            if (&a == &b || a.sent || !a.overlaps(b)) continue;
            fprintf(stderr, "stand-in: a piece is received where another one of its group lies\n");
            return INVALID_USAGE;
        }
    }
    std::stable_partition(pieces.begin(), pieces.end(), [](auto& piece) { return piece.sent; });
    Communicator& own = *pieces[0].own;
    long at = own.handed_over.size();
    own.stream = pieces[0].stream;
    uint64_t position = 0, last_sent = 0;
    for (auto& piece : pieces) {
        // To itself a rank sends and receives by one count each.
        std::pair from_to(own.rank, piece.other);
        if (!piece.sent) from_to = {piece.other, own.rank + own.size};
        piece.number = own.pieces[from_to]++;
        piece.at = at;
        if (piece.own != &own || (piece.sent && fails())) return UNHANDLED_CUDA_ERROR;
        int code = piece.sent
            ? driver().queue(piece.stream, "handing over a piece", piece.p, piece.bytes, false,
                             hand_over_piece, new Piece(piece), &position)
            : driver().queue(piece.stream, "a piece of another rank", piece.p, piece.bytes, true,
                             take_piece, new Piece(piece), &position);
        if (code) return UNHANDLED_CUDA_ERROR;
        if (piece.sent) last_sent = position;
    }
    return own.handed_over.push_back(last_sent), SUCCESS;
}

}  // namespace

API ncclGetVersion(int* version) { return *version = 22105, SUCCESS; }
extern "C" const char* ncclGetErrorString(int code) {
    switch (code) {
        case SUCCESS: return "no error";
        case UNHANDLED_CUDA_ERROR: return "unhandled cuda error";
        case SYSTEM_ERROR: return "unhandled system error";
        default: return "invalid usage";
    }
}
extern "C" const char* ncclGetLastError(void*) { return "a planted fault\n"; }

API ncclGetUniqueId(Id* id) {
    static int ids = 0;
    const char* root = getenv("STANDIN_NCCL");
    memset(id, 0, sizeof *id);
    snprintf(id->text, sizeof id->text, "%s/nccl-%d-%d", root ? root : "/tmp", getpid(), ids++);
    return mkdir(id->text, 0777) ? SYSTEM_ERROR : SUCCESS;
}
API ncclCommInitRank(Communicator** out, int size, Id id, int rank) {
    if (int code = setting("STANDIN_NCCL_INIT", 0)) return code;
    auto* own = new Communicator(id.text, rank, size);
    if (!write_file(file(*own, "here", rank), "", 0)) return SYSTEM_ERROR;
    for (int other = 0; other < size; other++) {
        if (!wait_for(file(*own, "here", other))) return SYSTEM_ERROR;
    }
    *out = own;
    static bool goes_on = [] {
        atexit([] { ends = true; });
        return std::thread(go_on_for_ever).detach(), true;
    }();
    (void)goes_on;
    return driver().alone([](void* own) {
        return communicators.push_back(static_cast<Communicator*>(own)), int(SUCCESS);
    }, own);
}
API ncclCommAbort(Communicator* own) {
    return own->aborted = true, SUCCESS;  // others may still read its last sum
}
API ncclGroupStart() { return groups++, SUCCESS; }
API ncclGroupEnd() {
    if (groups == 0) return INVALID_USAGE;
    if (--groups > 0 || group.empty()) return SUCCESS;
    std::vector<Piece> pieces;
    pieces.swap(group);
    return driver().alone(queue_group, &pieces);
}
API ncclSend(char* p, size_t bytes, int type, int to, Communicator* own, void* stream) {
    if (groups == 0 || type != 0 || to < 0 || to >= own->size) return INVALID_USAGE;
    return group.push_back({own, true, p, bytes, to, stream}), SUCCESS;
}
API ncclRecv(char* p, size_t bytes, int type, int from, Communicator* own, void* stream) {
    if (groups == 0 || type != 0 || from < 0 || from >= own->size) return INVALID_USAGE;
    return group.push_back({own, false, p, bytes, from, stream}), SUCCESS;
}
API ncclAllReduce(const char* from, char* to, size_t count, int type, int operation,
                  Communicator* own, void* stream) {
    struct Call { Communicator* own; char* at; size_t bytes; void* stream; };
    if (from != to || type != 7 || operation != 0) return INVALID_USAGE;
    Call call{own, to, count * 4, stream};
    return driver().alone([](void* context) -> int {
        auto [own, at, bytes, stream] = *static_cast<Call*>(context);
        if (fails()) return UNHANDLED_CUDA_ERROR;
        auto* sum = new Sum{own, own->sums++, long(own->handed_over.size()), bytes};
        uint64_t position = 0;
        own->stream = stream;
        int code = driver().queue(stream, "handing over a sum", at, bytes, false, hand_over, sum,
                                  &position);
        if (code) return UNHANDLED_CUDA_ERROR;
        own->handed_over.push_back(position);
        code = driver().queue(stream, "a sum of all ranks", at, bytes, true, add_up, sum, &position);
        return code ? UNHANDLED_CUDA_ERROR : SUCCESS;
    }, &call);
}
