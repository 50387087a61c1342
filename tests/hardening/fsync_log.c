/* Preloaded into the program: appends to the file FSYNC_LOG the path of each folder that is synced, and 1 if the file
 * FSYNC_OF exists by then, else 0. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd) {
    struct stat found;
    if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        int log = open(getenv("FSYNC_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
        dprintf(log, "%d %s\n", access(getenv("FSYNC_OF"), F_OK) == 0, path);
        close(log);
    }
    return (int)syscall(SYS_fsync, fd);
}
