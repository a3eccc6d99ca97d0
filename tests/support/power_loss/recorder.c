/* Records what a process and its children do to the files beneath one folder, and what they say to
 * others, in the order in which it happened: preloaded by tests.support.power_loss.recorder.
 *
 * A call that changes files, syncs them or sends is made under a lock that all threads and processes
 * share, and appended to a log: so the order of the log is the order of the disk. What none of these
 * functions sees (memory maps, system calls without the C library) is found by the reader, which
 * compares what the log makes of the folder with the folder. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPENED = 1, WRITTEN, RESIZED, SYNCED, RENAMED, LINKED, UNLINKED, MADE, SYMLINKED, SAID };
enum { SAID_BYTES = 1 << 16 };

struct record {
    uint32_t kind, first, second, flags;
    uint64_t inode, position;
};

static int log_file = -1;
static char root[PATH_MAX];
static size_t root_length;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real)                                                                                     \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The log: written by the functions of the system, never by those below. */

static ssize_t real_write(int file, const void *bytes, size_t length)
{
    REAL(write);
    return real(file, bytes, length);
}

static void lock_log(int type)
{
    struct flock whole = {.l_type = (short)type, .l_whence = SEEK_SET};
    while (fcntl(log_file, F_SETLKW, &whole) < 0 && errno == EINTR)
        ;
}

static void begin(void)
{
    int error = errno;
    pthread_mutex_lock(&mutex);
    lock_log(F_WRLCK);
    errno = error;
}

static void end(void)
{
    int error = errno;
    lock_log(F_UNLCK);
    pthread_mutex_unlock(&mutex);
    errno = error;
}

static void before_fork(void) { pthread_mutex_lock(&mutex); }
static void after_fork(void) { pthread_mutex_unlock(&mutex); }

__attribute__((constructor)) static void open_log(void)
{
    const char *path = getenv("POWER_LOSS_LOG"), *folder = getenv("POWER_LOSS_ROOT");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    if (!path || !folder)
        return;
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
    int file = real_open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0) {
        perror(path);
        abort();
    }
    /* Out of the way of programs that count on the numbers of what they open. */
    log_file = fcntl(file, F_DUPFD_CLOEXEC, 900);
    if (log_file < 0)
        log_file = file;
    else
        close(file);
    pthread_atfork(before_fork, after_fork, after_fork);
}

static void append(const void *bytes, size_t length)
{
    const char *rest = bytes;
    while (length) {
        ssize_t done = real_write(log_file, rest, length);
        if (done < 0 && errno != EINTR) {
            perror("log of a power loss");
            abort();
        }
        if (done > 0) {
            rest += done;
            length -= (size_t)done;
        }
    }
}

static void record(enum kind kind, uint64_t inode, uint64_t position, uint32_t flags,
                   const void *first, size_t first_length, const void *second, size_t second_length)
{
    int error = errno;
    struct record head = {.kind = kind,
                          .first = (uint32_t)first_length,
                          .second = (uint32_t)second_length,
                          .flags = flags,
                          .inode = inode,
                          .position = position};
    append(&head, sizeof head);
    append(first, first_length);
    append(second, second_length);
    errno = error;
}

/* Which files and sockets are meant. */

static int beneath(const char *path)
{
    return log_file >= 0 && !strncmp(path, root, root_length)
           && (path[root_length] == '/' || !path[root_length]);
}

/* The whole name of `path`; 1 if it is beneath the folder. */
static int whole_name(int folder, const char *path, char *name)
{
    if (log_file < 0 || !path)
        return 0;
    int error = errno;
    size_t length = 0;
    if (path[0] != '/') {
        char link[64];
        if (folder == AT_FDCWD) {
            if (!getcwd(name, PATH_MAX))
                return errno = error, 0;
            length = strlen(name);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t found = readlink(link, name, PATH_MAX - 1);
            if (found < 0)
                return errno = error, 0;
            length = (size_t)found;
        }
        name[length++] = '/';
    }
    errno = error;
    if (length + strlen(path) >= PATH_MAX)
        return 0;
    strcpy(name + length, path);
    return beneath(name);
}

/* The inode and the name of a file or folder beneath the folder that is recorded; 0 of others. */
static uint64_t named_inode_of(int file, char *name)
{
    if (log_file < 0)
        return 0;
    int error = errno;
    uint64_t inode = 0;
    struct stat status;
    if (!fstat(file, &status) && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, name, PATH_MAX - 1);
        if (length > 0) {
            name[length] = 0;
            if (beneath(name))
                inode = status.st_ino;
        }
    }
    errno = error;
    return inode;
}

static uint64_t inode_of(int file)
{
    char name[PATH_MAX];
    return named_inode_of(file, name);
}

/* Whether others hear what is written: over the network, or on a pipe at the standard output. */
static int is_heard(int file)
{
    if (log_file < 0)
        return 0;
    int error = errno, heard = 0;
    struct stat status;
    if (!fstat(file, &status)) {
        if (S_ISSOCK(status.st_mode)) {
            struct sockaddr_storage address;
            socklen_t length = sizeof address;
            heard = !getsockname(file, (struct sockaddr *)&address, &length)
                    && (address.ss_family == AF_INET || address.ss_family == AF_INET6);
        } else {
            heard = file == STDOUT_FILENO && S_ISFIFO(status.st_mode);
        }
    }
    errno = error;
    return heard;
}

static void say(const void *bytes, size_t length)
{
    begin();
    record(SAID, 0, 0, 0, bytes, length < SAID_BYTES ? length : SAID_BYTES, NULL, 0);
    end();
}

static void say_vector(const struct iovec *pieces, int count)
{
    char text[SAID_BYTES];
    size_t length = 0;
    for (int each = 0; each < count; each++) {
        size_t more = pieces[each].iov_len;
        if (more > sizeof text - length)
            more = sizeof text - length;
        memcpy(text + length, pieces[each].iov_base, more);
        length += more;
    }
    say(text, length);
}

/* Names. */

static uint64_t inode_of_name(const char *name)
{
    struct stat status;
    return lstat(name, &status) ? 0 : status.st_ino;
}

#define OPEN(name, parameters, arguments, folder)                                                  \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        mode_t mode = 0;                                                                           \
        char found[PATH_MAX];                                                                      \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                     \
            va_list rest;                                                                          \
            va_start(rest, flags);                                                                 \
            mode = va_arg(rest, mode_t);                                                           \
            va_end(rest);                                                                          \
        }                                                                                          \
        if (!(flags & (O_CREAT | O_TRUNC)) || !whole_name(folder, path, found))                    \
            return real arguments;                                                                 \
        begin();                                                                                   \
        int file = real arguments;                                                                 \
        uint64_t inode = file < 0 ? 0 : inode_of(file);                                            \
        if (inode)                                                                                 \
            record(OPENED, inode, 0, flags & O_TRUNC ? 1 : 0, found, strlen(found), NULL, 0);      \
        end();                                                                                     \
        return file;                                                                               \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)

/* Of streams, nothing is kept back: what is written is seen as it is written. */
#define FOPEN(name)                                                                                \
    FILE *name(const char *restrict path, const char *restrict how)                                \
    {                                                                                              \
        REAL(name);                                                                                \
        char found[PATH_MAX];                                                                      \
        if ((how[0] == 'r' && !strchr(how, '+')) || !whole_name(AT_FDCWD, path, found))            \
            return real(path, how);                                                                \
        begin();                                                                                   \
        FILE *stream = real(path, how);                                                            \
        uint64_t inode = stream ? inode_of(fileno(stream)) : 0;                                    \
        if (inode) {                                                                               \
            setvbuf(stream, NULL, _IONBF, 0);                                                      \
            if (how[0] != 'r')                                                                     \
                record(OPENED, inode, 0, how[0] == 'w', found, strlen(found), NULL, 0);            \
        }                                                                                          \
        end();                                                                                     \
        return stream;                                                                             \
    }

FOPEN(fopen)
FOPEN(fopen64)

#define TWO_NAMES(name, parameters, arguments, from_folder, to_folder, kind, flag)                 \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        char source[PATH_MAX], target[PATH_MAX];                                                   \
        int from_here = whole_name(from_folder, from, source);                                     \
        if (!whole_name(to_folder, to, target) && !from_here)                                      \
            return real arguments;                                                                 \
        begin();                                                                                   \
        int result = real arguments;                                                               \
        if (!result)                                                                               \
            record(kind, inode_of_name(target), 0, flag, source, strlen(source), target,           \
                   strlen(target));                                                                \
        end();                                                                                     \
        return result;                                                                             \
    }

TWO_NAMES(rename, (const char *from, const char *to), (from, to), AT_FDCWD, AT_FDCWD, RENAMED, 0)
TWO_NAMES(renameat, (int first, const char *from, int second, const char *to),
          (first, from, second, to), first, second, RENAMED, 0)
TWO_NAMES(renameat2, (int first, const char *from, int second, const char *to, unsigned flags),
          (first, from, second, to, flags), first, second, RENAMED, !!(flags & RENAME_EXCHANGE))
TWO_NAMES(link, (const char *from, const char *to), (from, to), AT_FDCWD, AT_FDCWD, LINKED, 0)
TWO_NAMES(linkat, (int first, const char *from, int second, const char *to, int flags),
          (first, from, second, to, flags), first, second, LINKED, 0)

int symlinkat(const char *to, int folder, const char *path)
{
    REAL(symlinkat);
    char name[PATH_MAX];
    if (!whole_name(folder, path, name))
        return real(to, folder, path);
    begin();
    int result = real(to, folder, path);
    if (!result)
        record(SYMLINKED, inode_of_name(name), 0, 0, name, strlen(name), to, strlen(to));
    end();
    return result;
}

int symlink(const char *to, const char *path) { return symlinkat(to, AT_FDCWD, path); }

#define ONE_NAME(name, parameters, arguments, folder, kind)                                        \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        char found[PATH_MAX];                                                                      \
        if (!whole_name(folder, path, found))                                                      \
            return real arguments;                                                                 \
        begin();                                                                                   \
        int result = real arguments;                                                               \
        if (!result)                                                                               \
            record(kind, kind == MADE ? inode_of_name(found) : 0, 0, 0, found, strlen(found),      \
                   NULL, 0);                                                                       \
        end();                                                                                     \
        return result;                                                                             \
    }

ONE_NAME(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, MADE)
ONE_NAME(mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), folder, MADE)
ONE_NAME(unlink, (const char *path), (path), AT_FDCWD, UNLINKED)
ONE_NAME(unlinkat, (int folder, const char *path, int flags), (folder, path, flags), folder, UNLINKED)
ONE_NAME(rmdir, (const char *path), (path), AT_FDCWD, UNLINKED)
ONE_NAME(remove, (const char *path), (path), AT_FDCWD, UNLINKED)

/* Contents. */

static void wrote(uint64_t inode, off_t position, const void *bytes, ssize_t length)
{
    if (length > 0)
        record(WRITTEN, inode, (uint64_t)position, 0, bytes, (size_t)length, NULL, 0);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    if (is_heard(file)) {
        say(bytes, length);
        return real_write(file, bytes, length);
    }
    uint64_t inode = inode_of(file);
    if (!inode)
        return real_write(file, bytes, length);
    begin();
    ssize_t done = real_write(file, bytes, length);
    wrote(inode, lseek(file, 0, SEEK_CUR) - done, bytes, done);
    end();
    return done;
}

#define PWRITE(name, offset)                                                                       \
    ssize_t name(int file, const void *bytes, size_t length, offset position)                      \
    {                                                                                              \
        REAL(name);                                                                                \
        uint64_t inode = inode_of(file);                                                           \
        if (!inode)                                                                                \
            return real(file, bytes, length, position);                                            \
        begin();                                                                                   \
        ssize_t done = real(file, bytes, length, position);                                        \
        wrote(inode, position, bytes, done);                                                       \
        end();                                                                                     \
        return done;                                                                               \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static void wrote_vector(uint64_t inode, off_t position, const struct iovec *pieces, ssize_t left)
{
    for (; left > 0; pieces++) {
        ssize_t length = (ssize_t)pieces->iov_len < left ? (ssize_t)pieces->iov_len : left;
        wrote(inode, position, pieces->iov_base, length);
        position += length;
        left -= length;
    }
}

ssize_t writev(int file, const struct iovec *pieces, int count)
{
    REAL(writev);
    if (is_heard(file)) {
        say_vector(pieces, count);
        return real(file, pieces, count);
    }
    uint64_t inode = inode_of(file);
    if (!inode)
        return real(file, pieces, count);
    begin();
    ssize_t done = real(file, pieces, count);
    wrote_vector(inode, lseek(file, 0, SEEK_CUR) - done, pieces, done);
    end();
    return done;
}

#define PWRITEV(name, offset)                                                                      \
    ssize_t name(int file, const struct iovec *pieces, int count, offset position)                 \
    {                                                                                              \
        REAL(name);                                                                                \
        uint64_t inode = inode_of(file);                                                           \
        if (!inode)                                                                                \
            return real(file, pieces, count, position);                                            \
        begin();                                                                                   \
        ssize_t done = real(file, pieces, count, position);                                        \
        wrote_vector(inode, position, pieces, done);                                               \
        end();                                                                                     \
        return done;                                                                               \
    }

PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define FWRITE(name)                                                                               \
    size_t name(const void *restrict bytes, size_t size, size_t count, FILE *restrict stream)      \
    {                                                                                              \
        REAL(name);                                                                                \
        int file = log_file < 0 ? -1 : fileno(stream);                                             \
        uint64_t inode = file < 0 ? 0 : inode_of(file);                                            \
        if (!inode)                                                                                \
            return real(bytes, size, count, stream);                                               \
        begin();                                                                                   \
        size_t done = real(bytes, size, count, stream);                                            \
        ssize_t length = (ssize_t)(done * size);                                                   \
        wrote(inode, ftello(stream) - length, bytes, length);                                      \
        end();                                                                                     \
        return done;                                                                               \
    }

FWRITE(fwrite)

/* What the system has copied between files is read from where it went. */
static void copied(uint64_t inode, int file, off_t position, ssize_t length)
{
    char bytes[1 << 16];
    while (length > 0) {
        ssize_t more = pread(file, bytes, length < (ssize_t)sizeof bytes ? (size_t)length : sizeof bytes,
                             position);
        if (more <= 0)
            return;
        wrote(inode, position, bytes, more);
        position += more;
        length -= more;
    }
}

ssize_t copy_file_range(int from, off64_t *start, int file, off64_t *position, size_t length,
                        unsigned flags)
{
    REAL(copy_file_range);
    uint64_t inode = inode_of(file);
    if (!inode)
        return real(from, start, file, position, length, flags);
    begin();
    ssize_t done = real(from, start, file, position, length, flags);
    if (done > 0)
        copied(inode, file, (position ? *position : lseek(file, 0, SEEK_CUR)) - done, done);
    end();
    return done;
}

#define SENDFILE(name, offset)                                                                     \
    ssize_t name(int file, int from, offset *start, size_t length)                                 \
    {                                                                                              \
        REAL(name);                                                                                \
        uint64_t inode = inode_of(file);                                                           \
        if (!inode)                                                                                \
            return real(file, from, start, length);                                                \
        begin();                                                                                   \
        ssize_t done = real(file, from, start, length);                                            \
        if (done > 0)                                                                              \
            copied(inode, file, lseek(file, 0, SEEK_CUR) - done, done);                            \
        end();                                                                                     \
        return done;                                                                               \
    }

SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

/* Lengths: `flags` of a record is 1 where the file may only grow. */
#define RESIZE(name, parameters, arguments, length, grows)                                         \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        uint64_t inode = inode_of(file);                                                           \
        if (!inode)                                                                                \
            return real arguments;                                                                 \
        begin();                                                                                   \
        int result = real arguments;                                                               \
        if (!result)                                                                               \
            record(RESIZED, inode, (uint64_t)(length), grows, NULL, 0, NULL, 0);                   \
        end();                                                                                     \
        return result;                                                                             \
    }

RESIZE(ftruncate, (int file, off_t length), (file, length), length, 0)
RESIZE(ftruncate64, (int file, off64_t length), (file, length), length, 0)
RESIZE(posix_fallocate, (int file, off_t start, off_t length), (file, start, length),
       start + length, 1)
RESIZE(posix_fallocate64, (int file, off64_t start, off64_t length), (file, start, length),
       start + length, 1)

#define TRUNCATE(name, offset)                                                                     \
    int name(const char *path, offset length)                                                      \
    {                                                                                              \
        REAL(name);                                                                                \
        char found[PATH_MAX];                                                                      \
        if (!whole_name(AT_FDCWD, path, found))                                                    \
            return real(path, length);                                                             \
        begin();                                                                                   \
        int result = real(path, length);                                                           \
        if (!result)                                                                               \
            record(RESIZED, inode_of_name(found), (uint64_t)length, 0, NULL, 0, NULL, 0);          \
        end();                                                                                     \
        return result;                                                                             \
    }

TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

#define SYNC(name)                                                                                 \
    int name(int file)                                                                             \
    {                                                                                              \
        REAL(name);                                                                                \
        char found[PATH_MAX];                                                                      \
        uint64_t inode = named_inode_of(file, found);                                              \
        if (!inode)                                                                                \
            return real(file);                                                                     \
        begin();                                                                                   \
        int result = real(file);                                                                   \
        if (!result)                                                                               \
            record(SYNCED, inode, 0, 0, found, strlen(found), NULL, 0);                            \
        end();                                                                                     \
        return result;                                                                             \
    }

SYNC(fsync)
SYNC(fdatasync)

/* What is said is recorded before it leaves: nobody has heard it at an earlier point. */

ssize_t send(int file, const void *bytes, size_t length, int flags)
{
    REAL(send);
    if (is_heard(file))
        say(bytes, length);
    return real(file, bytes, length, flags);
}

ssize_t sendto(int file, const void *bytes, size_t length, int flags, const struct sockaddr *to,
               socklen_t size)
{
    REAL(sendto);
    if (is_heard(file))
        say(bytes, length);
    return real(file, bytes, length, flags, to, size);
}

ssize_t sendmsg(int file, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    if (is_heard(file))
        say_vector(message->msg_iov, (int)message->msg_iovlen);
    return real(file, message, flags);
}
